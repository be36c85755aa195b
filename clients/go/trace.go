package consilium

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc/metadata"
)

// withTraceContext adds the trace context of ctx to its outgoing metadata, whether a span was started here or came with a
// request from elsewhere. A context without one adds nothing.
func withTraceContext(ctx context.Context, propagator propagation.TextMapPropagator) context.Context {
	if propagator == nil {
		propagator = globalPropagator()
	}
	sent, _ := metadata.FromOutgoingContext(ctx) // a copy, or nil where there is none
	if sent == nil {
		sent = metadata.MD{}
	}
	propagator.Inject(ctx, carrier(sent))
	return metadata.NewOutgoingContext(ctx, sent)
}

// globalPropagator is OpenTelemetry's. It is asked for at every call, because a program may set it after it has made its
// client. One that nobody has set writes nothing, not even for a span that is there; for that the standard is the better
// guess.
func globalPropagator() propagation.TextMapPropagator {
	if global := otel.GetTextMapPropagator(); len(global.Fields()) > 0 {
		return global
	}
	return propagation.TraceContext{}
}

// A carrier lets a propagator write gRPC metadata.
type carrier metadata.MD

func (c carrier) Get(key string) string {
	if values := metadata.MD(c).Get(key); len(values) > 0 {
		return values[0]
	}
	return ""
}

func (c carrier) Set(key, value string) {
	metadata.MD(c).Set(key, value)
}

func (c carrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for key := range c {
		keys = append(keys, key)
	}
	return keys
}
