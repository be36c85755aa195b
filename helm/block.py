"""YAML for people.

Texts of several lines stand as they are, so that a file in a file can be read, and compared line by line.
"""

from __future__ import annotations

from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Lists stand further in than the key that they belong to."""
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
# What stands twice is written twice: anchors are for machines.
_Dumper.ignore_aliases = lambda *_: True


def dump(content: dict[str, Any]) -> str:
    """The text of `content`, keys in their order. No line is folded: a line of JSON stays one."""
    return yaml.dump(content, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=1_000_000)
