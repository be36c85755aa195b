package consilium_test

import (
	"context"
	"errors"
	"net"
	"testing"

	"google.golang.org/grpc/codes"

	consilium "consilium.dev/go"
	"consilium.dev/go/consiliumv1"
)

func requireClosed(t *testing.T, method string, err error) {
	t.Helper()
	var failure *consilium.Error
	if !errors.As(err, &failure) || failure.Code != codes.Canceled || failure.Retryable() {
		t.Errorf("%s: %v", method, err)
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%s: %v is not context.Canceled", method, err)
	}
}

func TestAClosedClientMakesNoCalls(t *testing.T) {
	server := &router{}
	client := connect(t, server)
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	for method, err := range everyMethod(patient(t), client) {
		requireClosed(t, method, err)
	}
	if attempts := len(server.seen()); attempts > 0 {
		t.Errorf("%d calls arrived", attempts)
	}
}

func TestCloseEndsTheCallsThatRun(t *testing.T) {
	arrived := make(chan struct{}, 1)
	hold := func(ctx context.Context) error {
		arrived <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	server := &router{
		dispatch: func(ctx context.Context, _ *consiliumv1.DispatchRequest) (*consiliumv1.DispatchResponse, error) {
			return nil, hold(ctx)
		},
		stream: func(_ *consiliumv1.StreamDispatchRequest, events events) error {
			if err := events.Send(delta("first")); err != nil {
				return err
			}
			return hold(events.Context())
		},
	}
	closeWhenArrived := func(client *consilium.Client) {
		<-arrived
		_ = client.Close()
	}

	t.Run("Ask", func(t *testing.T) {
		client := connect(t, server)
		go closeWhenArrived(client)
		_, err := client.Ask(patient(t), "text")
		requireClosed(t, "Ask", err)
	})
	t.Run("Stream", func(t *testing.T) {
		client := connect(t, server)
		var last error
		for _, err := range client.Stream(patient(t), "text") {
			if err == nil {
				go closeWhenArrived(client)
			}
			last = err
		}
		requireClosed(t, "Stream", last)
	})
}

// The end of a connection that was draining looks to gRPC like that of one that broke. Where it would try again it finds the
// client closed; after the last attempt it does not look.
func TestCloseEndsTheLastAttemptOnADrainingConnection(t *testing.T) {
	arrived := make(chan struct{})
	router := failing(2, unavailable)
	answer := router.dispatch
	router.dispatch = func(
		ctx context.Context, request *consiliumv1.DispatchRequest,
	) (*consiliumv1.DispatchResponse, error) {
		if reply, err := answer(ctx, request); err != nil {
			return reply, err
		}
		close(arrived)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := serveOn(t, router, listener)
	client := dial(t, listener.Addr().String())

	ended := make(chan error)
	go func() {
		_, err := client.Ask(patient(t), "text")
		ended <- err
	}()
	<-arrived
	go server.GracefulStop()
	for err := error(nil); err == nil; { // until the client has seen that this connection takes no more calls
		_, err = client.Explain(patient(t), "text")
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	requireClosed(t, "Ask", <-ended)
}
