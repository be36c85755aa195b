"""The chart's README: README.md.gotmpl, which helm-docs takes too, with the table of values.

The table is of the comments in values.yaml: `# -- …` above a key, `# @default -- …` where the default is better told
than shown. What has no comment there is described by values.schema.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parent / "consilium"


@dataclass(frozen=True)
class Value:
    """A line of the table."""

    key: str
    type: str
    default: str
    description: str


def text() -> str:
    """The text of README.md."""
    about = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    table = ["| key | type | default | description |", "| --- | --- | --- | --- |"]
    for it in values(CHART / "values.yaml"):
        description = it.description.replace("|", "\\|")
        table.append(f"| {it.key} | {it.type} | {it.default} | {description} |")
    parts = {
        "chart.header": f"# {about['name']}",
        "chart.description": about["description"],
        "chart.valuesTable": "\n".join(table),
    }
    template = (CHART / "README.md.gotmpl").read_text(encoding="utf-8")
    # What is between {{/* and */}} is for whoever reads the template.
    template = re.sub(r"\{\{-? /\*.*?\*/ ?-?\}\}\n?", "", template, flags=re.DOTALL)
    return re.sub(r'\{\{ template "([a-zA-Z.]+)" \. \}\}', lambda it: parts[it[1]], template)


def values(path: Path) -> list[Value]:
    """Every value that has a line, in the order of the file."""
    source = path.read_text(encoding="utf-8")
    schema = json.loads((path.parent / "values.schema.json").read_text(encoding="utf-8"))
    return list(_of_map(yaml.compose(source), "", source.splitlines(), _Schema(schema, schema)))


def _of_map(node: yaml.MappingNode, path: str, lines: list[str], schema: _Schema) -> Iterator[Value]:
    for name, value in node.value:
        key = f"{path}.{name.value}" if path else name.value
        said, default = _comment(lines, name.start_mark.line)
        below = schema.of(name.value)
        # Of a map that is Kubernetes' own, and that the schema leaves to it, there is no more to say.
        if isinstance(value, yaml.MappingNode) and not value.flow_style and "properties" in below.here:
            if said:
                yield Value(key, "object", default or "", said)
            yield from _of_map(value, key, lines, below)
        else:
            content = yaml.safe_load(yaml.serialize(value))
            shown = default or f"`{json.dumps(content, ensure_ascii=False)}`"
            yield Value(key, _type(content), shown, said or below.description)


def _comment(lines: list[str], at: int) -> tuple[str, str]:
    """What stands above the key in that line: its description and its default, where they are given."""
    above: list[str] = []
    while at and lines[at - 1].lstrip().startswith("#"):
        at -= 1
        above.insert(0, lines[at].lstrip().removeprefix("#").strip())
    default = " ".join(line.removeprefix("@default -- ") for line in above if line.startswith("@default -- "))
    above = [line for line in above if not line.startswith("@default")]
    starts = [number for number, line in enumerate(above) if line.startswith("-- ")]
    return (" ".join(above[starts[-1] :]).removeprefix("-- ") if starts else "", default)


def _type(content: Any) -> str:
    names = {dict: "object", list: "list", str: "string", bool: "bool", int: "int", float: "float"}
    return names[type(content)]


@dataclass(frozen=True)
class _Schema:
    root: dict[str, Any]
    here: dict[str, Any]

    def of(self, name: str) -> _Schema:
        """That of a key."""
        found = self.here.get("properties", {}).get(name, {})
        if "$ref" in found:
            found = self.root["$defs"][found["$ref"].rpartition("/")[2]] | found
        return _Schema(self.root, found)

    @property
    def description(self) -> str:
        """What it says of itself."""
        return self.here.get("description", "")
