"""Somebody's application, which asks a mesh through our Python client and says as JSON what came back."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import grpc
from consilium import Client
from consilium.v1 import catalog_pb2, catalog_pb2_grpc, router_pb2


def main() -> int:
    """Asks once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--router", required=True, help="host:port")
    parser.add_argument("--ca", type=Path, help="speak TLS, and believe whom this PEM file vouches for")
    parser.add_argument("--certificate", type=Path)
    parser.add_argument("--key", type=Path)
    parser.add_argument("--server-name", help="the name in the router's certificate")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--experts", action="store_true", help="list who serves, instead of asking")
    parser.add_argument("--health", action="store_true", help="ask how it is, instead")
    parser.add_argument("question", nargs="?", default="")
    said = parser.parse_args()
    what = health if said.health else experts if said.experts else stream if said.stream else ask
    print(json.dumps(what(said)))
    return 0


def ask(said: argparse.Namespace) -> dict[str, Any]:
    """The answer to a question, its first passage only."""
    with connected(said) as client:
        reply = client.ask(said.question)
    return {
        "outcome": router_pb2.Decision.Outcome.Name(reply.decision.outcome),
        "expert": next((one.expert for one in reply.replies if one.HasField("answer")), None),
        "passages": [passage.id for passage in reply.answer.passages.passages],
    }


def stream(said: argparse.Namespace) -> dict[str, Any]:
    """The kinds of events of the same question's stream, in order."""
    with connected(said) as client:
        events = [(event.WhichOneof("event"), event) for event in client.stream(said.question)]
    replies = [event.reply.expert for kind, event in events if kind == "reply"]
    return {"events": [kind for kind, _ in events], "expert": replies[0] if replies else None}


def experts(said: argparse.Namespace) -> dict[str, list[str]]:
    """The instances that serve, by expert."""
    with grpc.insecure_channel(said.router) as channel:
        stub = catalog_pb2_grpc.CatalogServiceStub(channel)
        catalog = stub.ListExperts(catalog_pb2.ListExpertsRequest(), timeout=5).catalog
    serving = catalog_pb2.Instance.STATE_SERVING
    return {
        one.name: [it.id for it in one.instances if it.state == serving and not it.expired] for one in catalog.experts
    }


def health(said: argparse.Namespace) -> int:
    """What grpc.health.v1 answers for the whole server: 1 is SERVING. No stubs are needed for that."""
    with grpc.insecure_channel(said.router) as channel:
        return channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=5)[1]


def connected(said: argparse.Namespace) -> Client:
    """With TLS where there is an authority to believe."""
    if said.ca is None:
        return Client(said.router, plaintext=True)
    own = [said.key.read_bytes(), said.certificate.read_bytes()] if said.certificate else []
    credentials = grpc.ssl_channel_credentials(said.ca.read_bytes(), *own)
    options = [("grpc.ssl_target_name_override", said.server_name)] if said.server_name else []
    return Client(said.router, credentials=credentials, channel_options=options)


if __name__ == "__main__":
    sys.exit(main())
