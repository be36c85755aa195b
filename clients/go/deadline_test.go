package consilium_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	consilium "consilium.dev/go"
	"consilium.dev/go/consiliumv1"
)

// The server sees what is left of the deadline, so each case is told from the others by bounds far apart, not by a clock.
func TestEveryCallHasADeadlineTheSoonerOneCounts(t *testing.T) {
	const never = time.Duration(0)
	for name, test := range map[string]struct {
		context, client, call time.Duration
		atLeast, atMost       time.Duration
	}{
		"nothing said":           {never, never, never, 0, consilium.DefaultTimeout},
		"the client's":           {never, time.Hour, never, 50 * time.Minute, time.Hour},
		"the call's":             {never, time.Hour, 3 * time.Hour, 2 * time.Hour, 3 * time.Hour},
		"the context's, sooner":  {time.Hour, never, 3 * time.Hour, 50 * time.Minute, time.Hour},
		"the context's, later":   {3 * time.Hour, never, time.Hour, 50 * time.Minute, time.Hour},
		"the context's, default": {3 * time.Hour, never, never, 0, consilium.DefaultTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			server := &router{}
			var options []consilium.Option
			if test.client != never {
				options = append(options, consilium.WithDefaults(consilium.Timeout(test.client)))
			}
			var callOptions []consilium.CallOption
			if test.call != never {
				callOptions = append(callOptions, consilium.Timeout(test.call))
			}
			ctx := context.Background()
			if test.context != never {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, test.context)
				defer cancel()
			}

			for method, err := range everyMethod(ctx, open(t, serve(t, server), options...), callOptions...) {
				if err != nil {
					t.Errorf("%s: %v", method, err)
				}
			}
			seen := server.seen()
			if len(seen) != 4 {
				t.Fatalf("%d calls arrived, not 4", len(seen))
			}
			for _, attempt := range seen {
				if !attempt.bounded || attempt.budget < test.atLeast || attempt.budget > test.atMost {
					t.Errorf("budget %v, not %v to %v", attempt.budget, test.atLeast, test.atMost)
				}
			}
		})
	}
}

func TestThereIsNoCallWithoutADeadline(t *testing.T) {
	for _, timeout := range []time.Duration{0, -time.Second} {
		server := &router{}
		client := connect(t, server)
		for method, err := range everyMethod(patient(t), client, consilium.Timeout(timeout)) {
			var failure *consilium.Error
			if !errors.As(err, &failure) || failure.Code != codes.InvalidArgument {
				t.Errorf("%s with %v: %v", method, timeout, err)
			}
		}
		if seen := server.seen(); len(seen) > 0 {
			t.Errorf("%v: %d calls were made", timeout, len(seen))
		}
		if _, err := consilium.New("127.0.0.1:1", consilium.WithDefaults(consilium.Timeout(timeout))); err == nil {
			t.Errorf("a client whose calls may take %v", timeout)
		}
	}
}

func TestADeadlineEndsTheCall(t *testing.T) {
	hold := func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	client := connect(t, &router{
		dispatch: func(ctx context.Context, _ *consiliumv1.DispatchRequest) (*consiliumv1.DispatchResponse, error) {
			return nil, hold(ctx)
		},
		stream: func(_ *consiliumv1.StreamDispatchRequest, events events) error { return hold(events.Context()) },
	})

	failures := everyMethod(patient(t), client, consilium.Timeout(50*time.Millisecond))
	for _, method := range []string{"Ask", "Stream"} {
		var failure *consilium.Error
		if !errors.As(failures[method], &failure) || failure.Code != codes.DeadlineExceeded {
			t.Errorf("%s: %v", method, failures[method])
		}
		if !errors.Is(failures[method], context.DeadlineExceeded) {
			t.Errorf("%s: %v is not context.DeadlineExceeded", method, failures[method])
		}
	}
}

func TestCancellingTheContextEndsTheCall(t *testing.T) {
	ctx, cancel := context.WithCancel(patient(t))
	client := connect(t, &router{
		dispatch: func(server context.Context, _ *consiliumv1.DispatchRequest) (*consiliumv1.DispatchResponse, error) {
			cancel()
			<-server.Done()
			return nil, server.Err()
		},
	})

	_, err := client.Ask(ctx, "text", consilium.Timeout(patience))
	var failure *consilium.Error
	if !errors.As(err, &failure) || failure.Code != codes.Canceled || !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
