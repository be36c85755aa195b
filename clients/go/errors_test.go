package consilium_test

import (
	"context"
	"errors"
	"fmt"
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
	"google.golang.org/protobuf/protoadapt"
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
	_, err := client.Ask(patient(t), "text")
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

func TestAnotherTryIsForTheServerToOffer(t *testing.T) {
	in := func(delay time.Duration) *errdetails.RetryInfo {
		return &errdetails.RetryInfo{RetryDelay: durationpb.New(delay)}
	}
	const none = time.Duration(-1)
	for name, test := range map[string]struct {
		code      codes.Code
		details   []protoadapt.MessageV1
		pushback  []string
		inHeader  bool
		after     time.Duration
		retryable bool
	}{
		"nobody's UNAVAILABLE":        {code: codes.Unavailable, after: none, retryable: true},
		"ours, without a time":        {codes.Unavailable, details(reason("NO_LIVE_INSTANCE", nil)), nil, false, none, false},
		"ours, with a time":           {codes.Unavailable, details(reason("STARTING", nil), in(time.Second)), nil, false, time.Second, true},
		"a time, whatever the code":   {codes.ResourceExhausted, details(in(time.Second)), nil, false, time.Second, true},
		"another code without a time": {code: codes.Internal, after: none},
		"a pause":                     {codes.Unavailable, details(in(time.Second)), []string{"0"}, false, time.Second, true},
		"no":                          {codes.Unavailable, nil, []string{"-1"}, false, none, false},
		"no, though with a time":      {codes.Unavailable, details(in(time.Second)), []string{"-1"}, false, none, false},
		"no number":                   {codes.Unavailable, details(in(time.Second)), []string{"soon"}, false, none, false},
		"two pauses":                  {codes.Unavailable, details(in(time.Second)), []string{"1", "2"}, false, none, false},
		"no, in the header":           {codes.Unavailable, details(in(time.Second)), []string{"-1"}, true, none, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := asking(t, func(ctx context.Context) error {
				send := grpc.SetTrailer
				if test.inHeader {
					send = grpc.SendHeader
				}
				if err := send(ctx, metadata.MD{"grpc-retry-pushback-ms": test.pushback}); err != nil {
					return err
				}
				return failure(test.code, "no", test.details...)
			})
			after, ok := got.RetryAfter()
			if ok != (test.after != none) || ok && after != test.after {
				t.Errorf("retry after %v %v", after, ok)
			}
			if got.Retryable() != test.retryable {
				t.Errorf("retryable %v", got.Retryable())
			}
		})
	}
}

func details(messages ...protoadapt.MessageV1) []protoadapt.MessageV1 { return messages }

// gRPC for other languages allows 8 KiB, gRPC for Go 16 MiB.
func TestAnErrorMayBeLongButNotEndless(t *testing.T) {
	saying := func(bytes int) *consilium.Error {
		return asking(t, func(context.Context) error {
			return failure(codes.Internal, strings.Repeat("x", bytes), reason("MODEL_FAILED", nil))
		})
	}
	const bytes = 20 << 10 // arrives twice: as the message, and with the details in base 64
	if got := saying(bytes); got.Reason != "MODEL_FAILED" || len(got.Message) != bytes {
		t.Errorf("reason %q, message of %d bytes", got.Reason, len(got.Message))
	}
	if got := saying(3 * bytes); got.Reason != "" || len(got.Message) > 1000 {
		t.Errorf("reason %q, message of %d bytes", got.Reason, len(got.Message))
	}
}

// These are the errors that are made on this side, which has what may not be in them at hand. What a server says is its own.
func TestNoErrorRepeatsWhatWasSent(t *testing.T) {
	const secret = "a secret"
	const notUTF8 = secret + "\xff"
	echo := &router{
		dispatch: func(_ context.Context, request *consiliumv1.DispatchRequest) (*consiliumv1.DispatchResponse, error) {
			long := strings.Repeat(request.GetQuery().GetText(), 33<<20/len(secret))
			return &consiliumv1.DispatchResponse{FeedbackToken: long}, nil
		},
	}
	client := connect(t, echo)
	closed := connect(t, echo)
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	ask := func(client *consilium.Client, ctx context.Context, text string, options ...consilium.CallOption) error {
		_, err := client.Ask(ctx, text, options...)
		return err
	}
	stream := func(text string) (last error) {
		for _, err := range client.Stream(patient(t), text) {
			last = err
		}
		return last
	}
	over, cancel := context.WithCancel(patient(t))
	cancel()
	labelled := &consiliumv1.Query{Text: secret, Labels: map[string]string{"desk": secret}}
	_, twice := client.AskQuery(patient(t), labelled, consilium.Label("desk", secret))
	_, explained := client.Explain(patient(t), notUTF8)

	for name, test := range map[string]struct {
		err  error
		code codes.Code
	}{
		"a reply that is too long":    {ask(client, patient(t), secret), codes.ResourceExhausted},
		"a text that is not UTF-8":    {ask(client, patient(t), notUTF8), codes.Internal},
		"the same, explained":         {explained, codes.Internal},
		"the same, as a stream":       {stream(notUTF8), codes.Internal},
		"a label that is not UTF-8":   {ask(client, patient(t), "text", consilium.Label("desk", notUTF8)), codes.Internal},
		"an identity that is not":     {ask(client, patient(t), "text", consilium.Subject(notUTF8)), codes.Internal},
		"a token that is not":         {client.Feedback(patient(t), notUTF8, nil), codes.Internal},
		"a metric that is not":        {client.Feedback(patient(t), "token", consilium.Metrics{consilium.Text("comment", notUTF8)}), codes.Internal},
		"metadata that cannot travel": {ask(client, metadata.AppendToOutgoingContext(patient(t), "key", notUTF8), "text"), codes.Internal},
		"said twice":                  {twice, codes.InvalidArgument},
		"no time":                     {ask(client, patient(t), secret, consilium.Timeout(0)), codes.InvalidArgument},
		"cancelled":                   {ask(client, over, secret), codes.Canceled},
		"closed":                      {ask(closed, patient(t), secret), codes.Canceled},
	} {
		var failure *consilium.Error
		if !errors.As(test.err, &failure) || failure.Code != test.code {
			t.Errorf("%s: %v", name, test.err)
			continue
		}
		everything := fmt.Sprintf("%v %+v %v %v %v", failure, *failure, failure.Violations, failure.Metadata, errors.Unwrap(failure))
		if strings.Contains(everything, "secret") {
			t.Errorf("%s: %s", name, everything)
		}
	}
}
