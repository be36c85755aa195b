"""Somebody's application, traced by OpenTelemetry's own packages. It asks through our Python client, inside a span.

Says on standard output which trace that was and what came back, as one line of JSON. Knows nothing of the mesh but its
address.
"""

from __future__ import annotations

import argparse
import json
import sys

from consilium import Client
from consilium.v1 import router_pb2
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def main() -> int:
    """Asks once, and returns when its own span has left the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--router", required=True, help="host:port")
    parser.add_argument("--otlp", required=True, help="where spans go, as a URL")
    parser.add_argument("--attribute", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("question")
    arguments = parser.parse_args()

    provider = TracerProvider(resource=Resource.create({"service.name": "triage-desk"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=arguments.otlp, insecure=True)))
    tracer = provider.get_tracer("triage-desk")
    attributes = dict(attribute.split("=", 1) for attribute in arguments.attribute)
    with Client(arguments.router) as client, tracer.start_as_current_span("ask", kind=trace.SpanKind.CLIENT) as span:
        reply = client.ask(arguments.question, attributes=attributes)
        context = span.get_span_context()
    provider.shutdown()

    told = {
        "trace_id": trace.format_trace_id(context.trace_id),
        "span_id": trace.format_span_id(context.span_id),
        "outcome": router_pb2.Decision.Outcome.Name(reply.decision.outcome),
        "experts": [said.expert for said in reply.replies],
    }
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
