package consilium_test

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	consilium "consilium.dev/go"
	"consilium.dev/go/consiliumv1"
)

// asking returns what Ask of a router that fails like this fails with.
func asking(t *testing.T, fail func(context.Context) error) *consilium.Error {
	t.Helper()
	client := connect(t, &router{
		dispatch: func(ctx context.Context, _ *consiliumv1.DispatchRequest) (*consiliumv1.DispatchResponse, error) {
			return nil, fail(ctx)
		},
	})
	_, err := client.Ask(patient(t), "the secret question")
	var failure *consilium.Error
	if !errors.As(err, &failure) {
		t.Fatalf("%T: %v", err, err)
	}
	return failure
}

func TestAnErrorSaysAllThatTheServerSaid(t *testing.T) {
	got := asking(t, func(ctx context.Context) error {
		if err := grpc.SetTrailer(ctx, metadata.Pairs("consilium-request-id", "r-7")); err != nil {
			return err
		}
		return failure(codes.ResourceExhausted, "too many calls",
			reason("OVERLOADED", map[string]string{"expert": "general"}),
			&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
				{Field: "query.text", Description: "expected a text"},
				{Field: "options.top_k", Description: "expected 1 to 16"},
			}},
			&errdetails.RetryInfo{RetryDelay: durationpb.New(1500 * time.Millisecond)},
		)
	})

	if got.Code != codes.ResourceExhausted || got.Reason != "OVERLOADED" || got.Message != "too many calls" {
		t.Errorf("%v %v %q", got.Code, got.Reason, got.Message)
	}
	if got.RequestID != "r-7" {
		t.Errorf("request id %q", got.RequestID)
	}
	if !maps.Equal(got.Metadata, map[string]string{"expert": "general"}) {
		t.Errorf("metadata %v", got.Metadata)
	}
	violations := []consilium.Violation{{"query.text", "expected a text"}, {"options.top_k", "expected 1 to 16"}}
	if !slices.Equal(got.Violations, violations) {
		t.Errorf("violations %v", got.Violations)
	}
	if after, ok := got.RetryAfter(); !ok || after != 1500*time.Millisecond || !got.Retryable() {
		t.Errorf("retry after %v %v, retryable %v", after, ok, got.Retryable())
	}
	if got.Error() != "consilium: ResourceExhausted OVERLOADED: too many calls (request r-7)" {
		t.Errorf("%q", got.Error())
	}
	if strings.Contains(got.Error(), "secret") {
		t.Error("the error repeats the question")
	}
	if cause, ok := status.FromError(errors.Unwrap(got)); !ok || cause.Code() != codes.ResourceExhausted {
		t.Errorf("cause %v", errors.Unwrap(got))
	}
	if status.Code(got) != codes.ResourceExhausted {
		t.Errorf("as a status %v", status.Code(got))
	}
}

func TestARequestIDInTheHeaderCounts(t *testing.T) {
	got := asking(t, func(ctx context.Context) error {
		if err := grpc.SendHeader(ctx, metadata.Pairs("consilium-request-id", "r-8")); err != nil {
			return err
		}
		return status.Error(codes.Internal, "broken")
	})
	if got.RequestID != "r-8" {
		t.Errorf("request id %q", got.RequestID)
	}
}

func TestABareErrorHasNothingMade(t *testing.T) {
	got := asking(t, func(context.Context) error { return status.Error(codes.Internal, "broken") })
	if got.Reason != "" || got.RequestID != "" || got.Metadata != nil || got.Violations != nil {
		t.Errorf("%+v", got)
	}
	if _, ok := got.RetryAfter(); ok || got.Retryable() {
		t.Error("retryable")
	}
	if got.Error() != "consilium: Internal: broken" {
		t.Errorf("%q", got.Error())
	}
	if errors.Is(got, context.Canceled) || errors.Is(got, context.DeadlineExceeded) {
		t.Error("taken for the context's")
	}
}

func TestAReasonOfAnotherDomainIsNotOurs(t *testing.T) {
	got := asking(t, func(context.Context) error {
		return failure(codes.PermissionDenied, "no", &errdetails.ErrorInfo{Reason: "DENIED", Domain: "proxy.example"})
	})
	if got.Reason != "" || got.Metadata != nil {
		t.Errorf("reason %q, metadata %v", got.Reason, got.Metadata)
	}
}

func TestAtOnceIsATimeToTryAgain(t *testing.T) {
	got := asking(t, func(context.Context) error {
		return failure(codes.Aborted, "again", &errdetails.RetryInfo{})
	})
	if after, ok := got.RetryAfter(); !ok || after != 0 || !got.Retryable() {
		t.Errorf("retry after %v %v", after, ok)
	}
}

func TestNobodyThereIsUnavailable(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}

	for method, err := range everyMethod(patient(t), dial(t, address)) {
		var failure *consilium.Error
		if !errors.As(err, &failure) || failure.Code != codes.Unavailable || !failure.Retryable() || failure.Reason != "" {
			t.Errorf("%s: %v", method, err)
		}
	}
}
