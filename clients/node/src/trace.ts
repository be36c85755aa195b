/** The trace context that a call takes along. */

import type { Metadata } from "@grpc/grpc-js";
import {
  context,
  isSpanContextValid,
  propagation,
  type TextMapPropagator,
  type TextMapSetter,
  trace,
} from "@opentelemetry/api";

const SETTER: TextMapSetter<Metadata> = { set: (metadata, name, value) => metadata.set(name, value) };

/** By the propagator given, else by the program's, else as W3C trace context, which has no baggage. */
export function inject(metadata: Metadata, propagator: TextMapPropagator | undefined): void {
  if (propagator) propagator.inject(context.active(), metadata, SETTER);
  // The API has a propagator before the program sets one; that one has no fields and injects nothing.
  else if (propagation.fields().length > 0) propagation.inject(context.active(), metadata, SETTER);
  else injectTraceContext(metadata);
}

function injectTraceContext(metadata: Metadata): void {
  const span = trace.getSpanContext(context.active());
  if (!span || !isSpanContextValid(span)) return;
  const flags = span.traceFlags.toString(16).padStart(2, "0");
  metadata.set("traceparent", `00-${span.traceId}-${span.spanId}-${flags}`);
  const state = span.traceState?.serialize();
  if (state) metadata.set("tracestate", state);
}
