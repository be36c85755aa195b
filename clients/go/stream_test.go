package consilium_test

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	consilium "consilium.dev/go"
	"consilium.dev/go/consiliumv1"
)

func delta(text string) *consiliumv1.StreamDispatchResponse {
	return &consiliumv1.StreamDispatchResponse{
		Event: &consiliumv1.StreamDispatchResponse_Delta{Delta: &consiliumv1.TextDelta{Text: text}},
	}
}

func TestStreamGivesEveryEventInOrder(t *testing.T) {
	script := []*consiliumv1.StreamDispatchResponse{
		{Event: &consiliumv1.StreamDispatchResponse_Decision{Decision: &consiliumv1.Decision{Reason: "CHOSEN"}}},
		delta("It "),
		delta("depends."),
		{Event: &consiliumv1.StreamDispatchResponse_Reply{Reply: &consiliumv1.Reply{Expert: "general"}}},
		{Event: &consiliumv1.StreamDispatchResponse_Done{Done: &consiliumv1.Done{RequestId: "r-1", FeedbackToken: "t"}}},
	}
	var asked *consiliumv1.StreamDispatchRequest
	client := connect(t, &router{
		stream: func(request *consiliumv1.StreamDispatchRequest, events events) error {
			asked = request
			for _, event := range script {
				if err := events.Send(event); err != nil {
					return err
				}
			}
			return nil
		},
	})

	events := client.Stream(patient(t), "may I?", consilium.Tenant("ward-7"))
	for range 2 { // the second loop is a call of its own
		var got []*consiliumv1.StreamDispatchResponse
		for event, err := range events {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, event)
		}
		if len(got) != len(script) {
			t.Fatalf("%d events, not %d", len(got), len(script))
		}
		for i := range script {
			requireEqual(t, got[i], script[i])
		}
	}
	requireEqual(t, asked, &consiliumv1.StreamDispatchRequest{
		Query:   &consiliumv1.Query{Text: "may I?"},
		Context: &consiliumv1.CallContext{Tenant: "ward-7"},
	})
}

func TestLeavingTheLoopCancelsTheCall(t *testing.T) {
	ended := make(chan error, 1)
	client := connect(t, &router{
		stream: func(_ *consiliumv1.StreamDispatchRequest, events events) error {
			if err := events.Send(delta("first")); err != nil {
				return err
			}
			<-events.Context().Done()
			ended <- events.Context().Err()
			return events.Context().Err()
		},
	})

	ctx := patient(t)
	for event, err := range client.Stream(ctx, "text", consilium.Timeout(patience)) {
		if err != nil {
			t.Fatal(err)
		}
		requireEqual(t, event, delta("first"))
		break
	}
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the server saw %v", err)
		}
	case <-ctx.Done():
		t.Error("the server did not notice")
	}
}

func TestAStreamsErrorComesLast(t *testing.T) {
	client := connect(t, &router{
		stream: func(_ *consiliumv1.StreamDispatchRequest, events events) error {
			events.SetTrailer(metadata.Pairs("consilium-request-id", "r-9"))
			if err := events.Send(delta("first")); err != nil {
				return err
			}
			return failure(codes.Internal, "the model failed", reason("MODEL_FAILED", nil))
		},
	})

	var texts []string
	var failures []error
	for event, err := range client.Stream(patient(t), "text") {
		if err != nil {
			failures = append(failures, err)
			continue
		}
		texts = append(texts, event.GetDelta().GetText())
	}
	if len(texts) != 1 || len(failures) != 1 {
		t.Fatalf("events %q, errors %v", texts, failures)
	}
	var failure *consilium.Error
	if !errors.As(failures[0], &failure) || failure.Reason != "MODEL_FAILED" || failure.RequestID != "r-9" {
		t.Errorf("%v", failures[0])
	}
}
