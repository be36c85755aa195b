package consilium_test

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	consilium "consilium.dev/go"
)

const traceparent = "00-0102030405060708090a0b0c0d0e0f10-0102030405060708-01"

// traced is a context as a program has it while it traces, with a span, a vendor's state and baggage.
func traced(t *testing.T) context.Context {
	t.Helper()
	state, err := trace.ParseTraceState("vendor=value")
	if err != nil {
		t.Fatal(err)
	}
	span := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID:    trace.TraceID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
		SpanID:     trace.SpanID{1, 2, 3, 4, 5, 6, 7, 8},
		TraceFlags: trace.FlagsSampled,
		TraceState: state,
	})
	member, err := baggage.NewMember("ward", "7")
	if err != nil {
		t.Fatal(err)
	}
	bag, err := baggage.New(member)
	if err != nil {
		t.Fatal(err)
	}
	return baggage.ContextWithBaggage(trace.ContextWithSpanContext(patient(t), span), bag)
}

// sent calls every method and requires the same value of a key in the metadata of each; none where want is empty.
func sent(t *testing.T, ctx context.Context, want map[string]string, options ...consilium.Option) {
	t.Helper()
	server := &router{}
	for method, err := range everyMethod(ctx, connect(t, server, options...)) {
		if err != nil {
			t.Errorf("%s: %v", method, err)
		}
	}
	seen := server.seen()
	if len(seen) != 4 {
		t.Fatalf("%d calls arrived, not 4", len(seen))
	}
	for _, attempt := range seen {
		for key, value := range want {
			got := attempt.metadata.Get(key)
			if (value == "" && len(got) != 0) || (value != "" && (len(got) != 1 || got[0] != value)) {
				t.Errorf("%s %q, not %q", key, got, value)
			}
		}
	}
}

func TestTheTraceContextTravelsWithEveryCall(t *testing.T) {
	sent(t, traced(t), map[string]string{"traceparent": traceparent, "tracestate": "vendor=value", "baggage": ""})
}

func TestNothingTravelsWhereNothingTraces(t *testing.T) {
	sent(t, patient(t), map[string]string{"traceparent": "", "tracestate": "", "baggage": ""})
}

func TestTheClientsPropagatorDecides(t *testing.T) {
	sent(t, traced(t), map[string]string{"traceparent": "", "tracestate": "", "baggage": "ward=7"},
		consilium.WithPropagator(propagation.Baggage{}))
}

func TestTheProgramsPropagatorDecidesWhereTheClientHasNone(t *testing.T) {
	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	// The one from before would go on with what was set in between; a composite of none is as good as none.
	t.Cleanup(func() { otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator()) })
	sent(t, traced(t), map[string]string{"traceparent": traceparent, "tracestate": "vendor=value", "baggage": "ward=7"})
}
