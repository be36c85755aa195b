package consilium_test

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	consilium "consilium.dev/go"
	"consilium.dev/go/consiliumv1"
)

// failing returns a router that fails this often with that and then answers.
func failing(times int, fail func(context.Context) error) *router {
	server := &router{}
	next := func(ctx context.Context) error {
		if len(server.seen()) <= times {
			return fail(ctx)
		}
		return nil
	}
	server.dispatch = func(ctx context.Context, _ *consiliumv1.DispatchRequest) (*consiliumv1.DispatchResponse, error) {
		return &consiliumv1.DispatchResponse{RequestId: "answered"}, next(ctx)
	}
	server.stream = func(_ *consiliumv1.StreamDispatchRequest, events events) error { return next(events.Context()) }
	return server
}

func TestALongQueryIsRepeatedLikeAShortOne(t *testing.T) {
	server := failing(2, unavailable)
	client := dial(t, serve(t, server, grpc.MaxRecvMsgSize(16<<20)))
	if _, err := client.Ask(patient(t), strings.Repeat("x", 8<<20)); err != nil {
		t.Error(err)
	}
	if attempts := len(server.seen()); attempts != 3 {
		t.Errorf("%d attempts", attempts)
	}
}

func unavailable(context.Context) error { return status.Error(codes.Unavailable, "not now") }

func TestTheThirdAttemptMayAnswer(t *testing.T) {
	server := failing(2, unavailable)
	reply, err := connect(t, server).Ask(patient(t), "text")
	if err != nil {
		t.Fatal(err)
	}
	if reply.GetRequestId() != "answered" {
		t.Errorf("%v", reply)
	}
	if attempts := len(server.seen()); attempts != 3 {
		t.Errorf("%d attempts", attempts)
	}
}

func TestThereIsNoFourthAttempt(t *testing.T) {
	server := failing(3, unavailable)
	_, err := connect(t, server).Ask(patient(t), "text")
	if status.Code(err) != codes.Unavailable {
		t.Errorf("%v", err)
	}
	if attempts := len(server.seen()); attempts != 3 {
		t.Errorf("%d attempts", attempts)
	}
}

func TestAStreamThatHasNotBegunIsRepeated(t *testing.T) {
	server := failing(2, unavailable)
	for _, err := range connect(t, server).Stream(patient(t), "text") {
		if err != nil {
			t.Error(err)
		}
	}
	if attempts := len(server.seen()); attempts != 3 {
		t.Errorf("%d attempts", attempts)
	}
}

func TestAWrongRequestIsNotRepeated(t *testing.T) {
	server := failing(1, func(context.Context) error { return status.Error(codes.InvalidArgument, "wrong") })
	_, err := connect(t, server).Ask(patient(t), "text")
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("%v", err)
	}
	if attempts := len(server.seen()); attempts != 1 {
		t.Errorf("%d attempts", attempts)
	}
}

func TestAServerThatSaysNoIsObeyed(t *testing.T) {
	server := failing(1, func(ctx context.Context) error {
		if err := grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", "-1")); err != nil {
			return err
		}
		return unavailable(ctx)
	})
	_, err := connect(t, server).Ask(patient(t), "text")
	if status.Code(err) != codes.Unavailable {
		t.Errorf("%v", err)
	}
	if attempts := len(server.seen()); attempts != 1 {
		t.Errorf("%d attempts", attempts)
	}
}

// The service config asks for round robin, so calls of one client reach every address of the target.
func TestCallsAreSpreadOverTheAddresses(t *testing.T) {
	first, second := &router{}, &router{}
	client := dial(t, "mesh:///routers", consilium.WithPlaintext(), resolving("", serve(t, first), serve(t, second)))
	ctx := patient(t)
	for len(first.seen()) == 0 || len(second.seen()) == 0 {
		if _, err := client.Ask(ctx, "text"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAServiceConfigFromTheNameServerIsIgnored(t *testing.T) {
	server := failing(2, unavailable)
	client := dial(t, "mesh:///routers", consilium.WithPlaintext(), resolving("{}", serve(t, server)))
	if _, err := client.Ask(patient(t), "text"); err != nil {
		t.Error(err)
	}
	if attempts := len(server.seen()); attempts != 3 {
		t.Errorf("%d attempts", attempts)
	}
}
