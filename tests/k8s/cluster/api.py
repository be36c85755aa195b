"""Talking to the programs of the node over HTTP, from within the node's network."""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import socket
import ssl
import urllib.parse
from pathlib import Path
from typing import Any

from cluster import keys
from cluster.layout import API_PORT, KEYS, NODE_ADDRESS

SECONDS = 5
CLONE_NEWNET = 0x40000000


def enter_network(namespace: Path) -> None:
    """Moves this process, and those it starts, into the network namespace. The one of before is not needed again."""
    libc = ctypes.CDLL(None, use_errno=True)
    with namespace.open() as file:
        if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(namespace))


def answers(url: str, root: Path) -> bool:
    """Whether a program says there that it is ready. A socket's path is looked for below `root`."""
    parts = urllib.parse.urlsplit(url)
    try:
        if parts.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(root / parts.path.lstrip("/")))
            return True
        # Some of the programs make a certificate for themselves; in a network of its own there is nobody else.
        context = ssl._create_unverified_context()
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        more = {"context": context} if parts.scheme == "https" else {}
        connection = kind(parts.hostname or "", parts.port, timeout=SECONDS, **more)
        try:
            connection.request("GET", parts.path)
            return connection.getresponse().status == http.client.OK
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return False


def get(path: str) -> dict[str, Any] | None:
    """An object of the API, as the administrator; nothing where there is none."""
    status, body = _call("GET", path, None)
    return json.loads(body) if status == http.client.OK else None


def apply(path: str, manifest: dict[str, Any]) -> None:
    """Makes an object of the API be as the manifest says, by server-side apply."""
    status, body = _call("PATCH", f"{path}?fieldManager=node&force=true", manifest)
    if status not in (http.client.OK, http.client.CREATED):
        raise RuntimeError(f"the API server refused {path}: {status} {body.decode(errors='replace')}")


def _call(method: str, path: str, body: dict[str, Any] | None) -> tuple[int, bytes]:
    context = ssl.create_default_context(cafile=str(keys.AUTHORITY))
    context.load_cert_chain(KEYS / "admin.crt", KEYS / "admin.key")
    connection = http.client.HTTPSConnection(NODE_ADDRESS, API_PORT, timeout=SECONDS, context=context)
    try:
        sent = None if body is None else json.dumps(body)
        connection.request(method, path, sent, {"Content-Type": "application/apply-patch+yaml"} if sent else {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
