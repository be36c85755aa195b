"""What of an object is the same whenever it is rendered, short enough to be read."""

from __future__ import annotations

import hashlib
from typing import Any

# Longer texts are known by their hash: knowledge and dashboards stand elsewhere in this repository.
LONG = 4_000


def same_each_time(it: Any) -> Any:
    """Without what is made at random (keys and certificates are new in each render) and what follows from it."""
    if isinstance(it, list):
        return [same_each_time(part) for part in it]
    if isinstance(it, str):
        return (
            it if len(it) <= LONG else f"<{len(it)} characters, sha256 {hashlib.sha256(it.encode()).hexdigest()[:16]}>"
        )
    if not isinstance(it, dict):
        return it
    secret = it.get("kind") == "Secret"
    return {name: _same_of(name, part, secret) for name, part in it.items()}


def _same_of(name: str, part: Any, secret: bool) -> Any:
    if secret and name in ("data", "stringData"):
        return dict.fromkeys(part, "<made>")
    if name.startswith("checksum/"):
        return "<checksum>"
    return same_each_time(part)
