#!/usr/bin/env python3
"""Shows that Triton's own Python client works against an expert or a router: RPC × datatype × unary and stream.

    .tools/oip/triton/bin/python tests/conformance/triton.py --address HOST:PORT --prefix EXPERT --kind expert \
        --repository DIR [--text MODEL --ask TEXT …] [--json FILE]
    .tools/oip/triton-2.51/bin/python tests/conformance/triton.py --address HOST:PORT --prefix EXPERT --kind router …

EXPERT serves a copy of models/build/fixtures/repository; DIR is that copy, into which a version is put and taken out
again. MODEL takes texts; on a router it may be the mesh itself. An expert that takes texts has no repository, so there
--text stands without --prefix. Ends with 1 where a row is wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib import metadata
from pathlib import Path

import report
import triton_control
import triton_datatypes
import triton_models
import triton_requests
import triton_streams
import triton_text
from subject import Subject

MODULES = (triton_models, triton_datatypes, triton_requests, triton_streams, triton_control)


def main() -> int:
    """Gives the exit code: 0 all right, 1 something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", required=True, metavar="HOST:PORT")
    parser.add_argument("--prefix", metavar="EXPERT", help="the expert that serves the fixtures")
    parser.add_argument("--kind", required=True, choices=("expert", "router"))
    parser.add_argument("--repository", type=Path, metavar="DIR", help="where that expert reads its models")
    parser.add_argument("--text", metavar="MODEL", help="a model that takes texts")
    parser.add_argument("--ask", action="append", metavar="TEXT", help="what to ask it; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the rows")
    options = parser.parse_args()
    if not options.prefix and not options.text:
        parser.error("neither --prefix nor --text: there is nothing to look at")

    started = time.monotonic()
    subject = Subject(options.address, options.prefix or "", options.kind, options.repository)
    rows = []
    if options.prefix:
        checks = [check for module in MODULES for check in module.CHECKS if check.only in ("", options.kind)]
        if options.repository is None:
            checks = [check for check in checks if check.run not in triton_control.NEED_REPOSITORY]
        rows += report.run(checks, subject)
    if options.text:
        rows += report.run(triton_text.CHECKS, subject, options.text, options.ask or triton_text.QUERIES)
    client = metadata.version("tritonclient")
    title = f"tritonclient {client}, {options.kind} at {options.address}"
    return report.finish(title, rows, started, options.json, client=client, kind=options.kind)


if __name__ == "__main__":
    sys.exit(main())
