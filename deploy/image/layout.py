"""What the images of Consilium are: their names, what lies where in them, and how they are run.

The Dockerfile says the same in its own words, and a test holds the two against each other.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

# Of every program in here; the usual number of somebody who is not root.
NONROOT = 65532
# Where a program may write, besides /tmp: nobody else's business.
STATE = "var/lib/consilium"
ONNXRUNTIME = "/usr/lib/consilium/libonnxruntime.so"
SHARED = "/usr/share/consilium"
DOCUMENTS = "/usr/share/doc/consilium"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"

# The models that the clinic names. Whoever runs other meshes brings other models, in a volume.
MODELS = ("minilm-l6", "clinic-diagnostic")

ENVIRONMENT: Mapping[str, str] = {
    "PATH": "/usr/bin",
    "SSL_CERT_FILE": CERTIFICATES,
    "ORT_DYLIB_PATH": ONNXRUNTIME,
    "CONSILIUM_MODELS": f"{SHARED}/models",
    # Fixed, or glibc raises it each time something large is freed, and keeps the memory of models that were given back.
    "MALLOC_MMAP_THRESHOLD_": "131072",
}


@dataclass(frozen=True)
class Program:
    """One image: its name below consilium/, the crate and the program in it, and the ports that it listens on."""

    name: str
    crate: str
    binary: str
    description: str
    ports: tuple[int, ...] = ()
    # Meshes that lie in the image, to be tried out.
    meshes: tuple[str, ...] = ()

    @property
    def entrypoint(self) -> str:
        """The program's path in the image."""
        return f"/usr/bin/{self.binary}"

    def image(self) -> str:
        """The image's full name."""
        return f"docker.io/consilium/{self.name}:{version()}"

    def config(self, revision: str | None = None) -> dict[str, Any]:
        """In the words of OCI's image configuration; `revision` is the commit that it was built from, where known."""
        config: dict[str, Any] = {
            "Entrypoint": [self.entrypoint],
            "User": f"{NONROOT}:{NONROOT}",
            "WorkingDir": "/",
            "Env": [f"{name}={value}" for name, value in ENVIRONMENT.items()],
            "Labels": self.labels() | ({"org.opencontainers.image.revision": revision} if revision else {}),
        }
        if self.ports:
            config["ExposedPorts"] = {f"{port}/tcp": {} for port in self.ports}
        return config

    def labels(self) -> dict[str, str]:
        """OCI's labels, without the one that differs from commit to commit."""
        said = {
            "title": f"consilium-{self.name}",
            "description": self.description,
            "version": version(),
            "licenses": "Apache-2.0",
        }
        return {f"org.opencontainers.image.{key}": value for key, value in said.items()}


PROGRAMS = {
    program.name: program
    for program in (
        Program("router", "consilium-router", "consilium-router", "Routes the queries of a mesh", (7600, 7601)),
        Program("expert", "consilium-expert", "consilium-expert", "Serves one expert of a mesh", (7700, 7701)),
        Program("cli", "consilium-cli", "consilium", "Runs, asks and checks a mesh", meshes=("clinic",)),
    )
}


def version() -> str:
    """The workspace's, which all images have."""
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))
    return str(manifest["workspace"]["package"]["version"])
