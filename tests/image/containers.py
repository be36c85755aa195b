"""Runs an unpacked image in runc, as Kubernetes does under its standard `restricted`.

That is as the image's user, on a root that cannot be written to, without capabilities and without gaining any.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMESPACES = ("pid", "ipc", "uts", "mount")


def impossible() -> str | None:
    """Why no container can be run here."""
    if os.geteuid() != 0:
        return "containers need root here"
    if not shutil.which("runc"):
        return "there is no runc here (apt-get install runc)"
    return None


@dataclass(frozen=True)
class Container:
    """One container: the root that it has, the image's configuration, and what this run adds."""

    name: str
    root: Path
    config: Mapping[str, Any]
    arguments: Sequence[str]
    # Read-only, by where they are seen.
    mounts: Mapping[str, Path] = field(default_factory=dict)
    # Its own has nothing but the loopback.
    own_network: bool = True

    def run(self, folder: Path) -> subprocess.CompletedProcess[str]:
        """Until it ends."""
        return subprocess.run(self._command(folder), capture_output=True, text=True, check=False, timeout=180)

    def start(self, folder: Path) -> subprocess.Popen[str]:
        """In the background; ends when it is told so by a signal, which runc passes on."""
        return subprocess.Popen(self._command(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def _command(self, folder: Path) -> list[str]:
        bundle = folder / self.name
        bundle.mkdir()
        (bundle / "config.json").write_text(json.dumps(self._spec()), encoding="utf-8")
        return [
            "runc",
            "--root",
            str(folder / "runc"),
            "run",
            "--bundle",
            str(bundle),
            f"consilium-{os.getpid()}-{self.name}",
        ]

    def _spec(self) -> dict[str, Any]:
        user, _, group = self.config["User"].partition(":")
        ours = f"mode=0700,uid={user},gid={group}"
        writable = {"/tmp": "mode=1777", "/var/lib/consilium": ours}
        return {
            "ociVersion": "1.0.2",
            "root": {"path": str(self.root), "readonly": True},
            "process": {
                "args": [*self.config["Entrypoint"], *self.arguments],
                "env": self.config["Env"],
                "cwd": self.config["WorkingDir"],
                "user": {"uid": int(user), "gid": int(group)},
                "capabilities": {},
                "noNewPrivileges": True,
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                *(
                    {
                        "destination": path,
                        "type": "tmpfs",
                        "source": "tmpfs",
                        "options": ["nosuid", "nodev", *said.split(",")],
                    }
                    for path, said in writable.items()
                ),
                *(
                    {"destination": path, "type": "bind", "source": str(source), "options": ["rbind", "ro"]}
                    for path, source in self.mounts.items()
                ),
            ],
            "linux": {
                "namespaces": [{"type": kind} for kind in (*NAMESPACES, *(["network"] if self.own_network else []))],
                "maskedPaths": ["/proc/kcore", "/proc/keys"],
                "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"],
            },
        }
