package consilium_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"

	consilium "consilium.dev/go"
	"consilium.dev/go/consiliumv1"
)

// patience is the deadline of every test that is not about deadlines: far away, however busy the machine is. What hangs is
// ended, and shown with all its stacks, by `go test`.
const patience = time.Hour

// A router is a real gRPC server with scripted answers. It remembers every attempt that reached it.
type router struct {
	consiliumv1.UnimplementedRouterServiceServer

	dispatch func(context.Context, *consiliumv1.DispatchRequest) (*consiliumv1.DispatchResponse, error)
	explain  func(context.Context, *consiliumv1.ExplainRequest) (*consiliumv1.ExplainResponse, error)
	stream   func(*consiliumv1.StreamDispatchRequest, events) error
	feedback func(context.Context, *consiliumv1.SendFeedbackRequest) (*consiliumv1.SendFeedbackResponse, error)

	mutex    sync.Mutex
	attempts []attempt
}

type events = grpc.ServerStreamingServer[consiliumv1.StreamDispatchResponse]

// An attempt is what the server saw of one try of a call.
type attempt struct {
	metadata metadata.MD
	// How long the caller gave it, and whether it gave it any time at all.
	budget  time.Duration
	bounded bool
}

func (r *router) Dispatch(
	ctx context.Context, request *consiliumv1.DispatchRequest,
) (*consiliumv1.DispatchResponse, error) {
	r.remember(ctx)
	if r.dispatch == nil {
		return &consiliumv1.DispatchResponse{}, nil
	}
	return r.dispatch(ctx, request)
}

func (r *router) Explain(
	ctx context.Context, request *consiliumv1.ExplainRequest,
) (*consiliumv1.ExplainResponse, error) {
	r.remember(ctx)
	if r.explain == nil {
		return &consiliumv1.ExplainResponse{}, nil
	}
	return r.explain(ctx, request)
}

func (r *router) StreamDispatch(request *consiliumv1.StreamDispatchRequest, events events) error {
	r.remember(events.Context())
	if r.stream == nil {
		return nil
	}
	return r.stream(request, events)
}

func (r *router) SendFeedback(
	ctx context.Context, request *consiliumv1.SendFeedbackRequest,
) (*consiliumv1.SendFeedbackResponse, error) {
	r.remember(ctx)
	if r.feedback == nil {
		return &consiliumv1.SendFeedbackResponse{}, nil
	}
	return r.feedback(ctx, request)
}

func (r *router) remember(ctx context.Context) {
	received, _ := metadata.FromIncomingContext(ctx)
	deadline, bounded := ctx.Deadline()
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.attempts = append(r.attempts, attempt{received, time.Until(deadline), bounded})
}

// seen is every attempt so far, in order.
func (r *router) seen() []attempt {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return append([]attempt(nil), r.attempts...)
}

// listen serves the router on a port of its own and returns the address. The function stops it.
func (r *router) listen(options ...grpc.ServerOption) (string, func(), error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	_, stop := r.start(listener, options...)
	return listener.Addr().String(), stop, nil
}

func (r *router) start(listener net.Listener, options ...grpc.ServerOption) (*grpc.Server, func()) {
	server := grpc.NewServer(options...)
	consiliumv1.RegisterRouterServiceServer(server, r)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // ends by Stop, and a server that ended sooner shows in every call
	}()
	return server, func() { server.Stop(); <-done }
}

// serve starts the router for as long as the test runs.
func serve(t *testing.T, r *router, options ...grpc.ServerOption) string {
	t.Helper()
	address, stop, err := r.listen(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return address
}

// serveOn starts the router at a listener that the test has made.
func serveOn(t *testing.T, r *router, listener net.Listener) *grpc.Server {
	t.Helper()
	server, stop := r.start(listener)
	t.Cleanup(stop)
	return server
}

// connect makes a client of the router, which it starts.
func connect(t *testing.T, r *router, options ...consilium.Option) *consilium.Client {
	t.Helper()
	return dial(t, serve(t, r), options...)
}

// dial makes a client whose calls have all the time that they need, unless its options say otherwise.
func dial(t *testing.T, target string, options ...consilium.Option) *consilium.Client {
	t.Helper()
	patiently := consilium.WithDefaults(consilium.Timeout(patience))
	return open(t, target, append([]consilium.Option{patiently}, options...)...)
}

// open makes a client with these options and no others.
func open(t *testing.T, target string, options ...consilium.Option) *consilium.Client {
	t.Helper()
	client, err := consilium.New(target, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil && status.Code(err) != codes.Canceled { // as a second one says
			t.Error(err)
		}
	})
	return client
}

func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// everyMethod calls each method of the client once; a test that says "every call" goes through all of them.
func everyMethod(ctx context.Context, client *consilium.Client, options ...consilium.CallOption) map[string]error {
	failures := make(map[string]error)
	_, failures["Ask"] = client.Ask(ctx, "text", options...)
	_, failures["Explain"] = client.Explain(ctx, "text", options...)
	failures["Stream"] = nil
	for _, err := range client.Stream(ctx, "text", options...) {
		failures["Stream"] = err
	}
	failures["Feedback"] = client.Feedback(ctx, "token", nil, options...)
	return failures
}

// failure is a status with details, as the router sends it.
func failure(code codes.Code, message string, details ...protoadapt.MessageV1) error {
	with, err := status.New(code, message).WithDetails(details...)
	if err != nil {
		return err
	}
	return with.Err()
}

func reason(word string, facts map[string]string) *errdetails.ErrorInfo {
	return &errdetails.ErrorInfo{Reason: word, Domain: "consilium.dev", Metadata: facts}
}

func requireEqual(t *testing.T, got, want proto.Message) {
	t.Helper()
	if !proto.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

// resolving lets every target with the scheme mesh resolve to the addresses, with a service config where one is given.
func resolving(serviceConfig string, addresses ...string) consilium.Option {
	names := manual.NewBuilderWithScheme("mesh")
	names.BuildCallback = func(_ resolver.Target, connection resolver.ClientConn, _ resolver.BuildOptions) {
		var state resolver.State
		for _, address := range addresses {
			state.Addresses = append(state.Addresses, resolver.Address{Addr: address})
		}
		if serviceConfig != "" {
			state.ServiceConfig = connection.ParseServiceConfig(serviceConfig)
		}
		names.InitialState(state)
	}
	return consilium.WithDialOptions(grpc.WithResolvers(names))
}
