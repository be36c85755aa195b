#!/usr/bin/env python3
"""Writes the dashboards. Needs nothing but Python.

build.py           writes dashboards/*.json
build.py --check   fails when one of them is not what would be written
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from pathlib import Path

import expert
import mesh
import traces

FOLDER = Path(__file__).resolve().parent / "dashboards"
DASHBOARDS = {"mesh": mesh.dashboard, "expert": expert.dashboard, "traces": traces.dashboard}


def main() -> int:
    """The exit code: 1 when something is stale."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check

    stale = 0
    for name, dashboard in DASHBOARDS.items():
        path = FOLDER / f"{name}.json"
        new = json.dumps(dashboard().classic(), indent=2, ensure_ascii=False) + "\n"
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if new == old:
            continue
        stale += 1
        if check:
            difference = difflib.unified_diff(
                old.splitlines(), new.splitlines(), "committed", "built", lineterm="", n=1
            )
            print(f"{path.name} is not what build.py writes:", *list(difference)[:40], sep="\n", file=sys.stderr)
        else:
            path.write_text(new, encoding="utf-8")
            print(f"wrote {path.name}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
