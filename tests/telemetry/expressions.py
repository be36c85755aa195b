"""Every PromQL expression of the dashboards, with its variables replaced, as one list of JSON on standard output.

An expression that is about one expert comes once for each that is given.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

GRAFANA = Path(__file__).resolve().parents[2] / "deploy" / "grafana"
sys.path.insert(0, str(GRAFANA))

import queries  # noqa: E402


def main() -> int:
    """Prints `dashboard`, `panel`, `ref` and `forms`, which are the expression for each expert."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experts", nargs="+")
    experts = parser.parse_args().experts

    found = []
    for path in sorted((GRAFANA / "dashboards").glob("*.json")):
        known = queries.defaults(queries.load(path))
        for asked in queries.expressions(path):
            forms = [queries.substitute(asked["expr"], {**known, "expert": expert}) for expert in experts]
            found.append({**{key: asked[key] for key in ("dashboard", "panel", "ref")}, "forms": sorted(set(forms))})
    json.dump(found, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
