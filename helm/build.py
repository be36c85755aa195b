#!/usr/bin/env python3
"""Writes what the chart takes from elsewhere in this repository, and its README.

Needs what `scripts/setup helm` installs, and `make cli` before.

build.py           writes what is stale
build.py --check   fails when something is
"""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path

import example
import readme
import rules

CHART = Path(__file__).resolve().parent / "consilium"
DASHBOARDS = CHART.parent.parent / "deploy" / "grafana" / "dashboards"


def made() -> dict[str, str]:
    """Each file that is made, as its path in the chart, with what it should hold."""
    files = {"examples/clinic.yaml": example.values()}
    for dashboard in sorted(DASHBOARDS.glob("*.json")):
        files[f"dashboards/{dashboard.name}"] = dashboard.read_text(encoding="utf-8")
    files |= {f"rules/{name}": text for name, text in rules.files().items()}
    files["README.md"] = readme.text()
    return files


def main() -> int:
    """The exit code: 1 when something is stale."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check

    stale = 0
    for name, new in made().items():
        path = CHART / name
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if new == old:
            continue
        stale += 1
        if check:
            difference = difflib.unified_diff(old.splitlines(), new.splitlines(), "committed", "made", lineterm="", n=1)
            print(f"{name} is not what build.py writes:", *list(difference)[:40], sep="\n", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(new, encoding="utf-8")
            print(f"wrote {name}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
