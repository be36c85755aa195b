package consilium

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"consilium.dev/go/consiliumv1"
)

// A Client asks the routers of one mesh. It is safe for concurrent use, and one is enough for a program: calls share its
// connections. It connects with the first call and again by itself whenever that is needed.
type Client struct {
	connection *grpc.ClientConn
	router     consiliumv1.RouterServiceClient
	defaults   []CallOption
	propagator propagation.TextMapPropagator
	closed     atomic.Bool
}

// New makes a client of the mesh behind target: host:port, or any other name that gRPC can resolve, such as
// dns:///consilium-router:7600 for every address that the name has. It does not connect yet, so it fails only for
// options that cannot be right; a target that nobody answers at shows in the first call.
//
// To this machine (localhost, 127.0.0.0/8, [::1], unix:) the connection is in plain text. For any other target either
// [WithTLS] or [WithPlaintext] has to be said.
func New(target string, options ...Option) (*Client, error) {
	settings := newSettings(options)
	if _, invalid := newCall(settings.defaults, nil, nil); invalid != nil {
		return nil, fmt.Errorf("consilium: defaults: %s", invalid.Message)
	}
	connection, err := grpc.NewClient(target, settings.dialOptions()...)
	if err != nil {
		return nil, fmt.Errorf("consilium: %w", err)
	}
	if err := settings.guard(connection.CanonicalTarget()); err != nil {
		_ = connection.Close() // it has not connected
		return nil, fmt.Errorf("consilium: %w", err)
	}
	return &Client{
		connection: connection,
		router:     consiliumv1.NewRouterServiceClient(connection),
		defaults:   settings.defaults,
		propagator: settings.propagator,
	}, nil
}

// Close closes the client's connections. Calls that still run end as CANCELLED, and so do those that are made later; an
// answer that has arrived by then may still be returned.
func (c *Client) Close() error {
	c.closed.Store(true)
	return c.connection.Close()
}

// Ask sends a question to the experts that know its subject and returns their answer, together with the decision that
// chose them. A question that nobody knows is answered with a decision alone: its outcome is OUTCOME_REFUSED.
//
// The error, if there is one, is an [*Error].
func (c *Client) Ask(ctx context.Context, text string, options ...CallOption) (*consiliumv1.DispatchResponse, error) {
	return c.AskQuery(ctx, &consiliumv1.Query{Text: text}, options...)
}

// AskQuery is [Client.Ask] for a query that is more than a text: with documents, records, tensors or files, or with the
// turns of a conversation. The query is not changed.
func (c *Client) AskQuery(
	ctx context.Context, query *consiliumv1.Query, options ...CallOption,
) (*consiliumv1.DispatchResponse, error) {
	call, invalid := newCall(c.defaults, query, options)
	if invalid != nil {
		return nil, invalid
	}
	request := &consiliumv1.DispatchRequest{Query: call.query, Context: call.context, Options: call.options}
	return unary(ctx, c, call.timeout, c.router.Dispatch, request)
}

// Explain returns what [Client.Ask] would do with the question, and why: the decision with the probability of every
// expert, and the plan. Nobody is asked.
//
// The error, if there is one, is an [*Error].
func (c *Client) Explain(ctx context.Context, text string, options ...CallOption) (*consiliumv1.ExplainResponse, error) {
	return c.ExplainQuery(ctx, &consiliumv1.Query{Text: text}, options...)
}

// ExplainQuery is [Client.Explain] for a query that is more than a text. The query is not changed.
func (c *Client) ExplainQuery(
	ctx context.Context, query *consiliumv1.Query, options ...CallOption,
) (*consiliumv1.ExplainResponse, error) {
	call, invalid := newCall(c.defaults, query, options)
	if invalid != nil {
		return nil, invalid
	}
	request := &consiliumv1.ExplainRequest{Query: call.query, Context: call.context, Options: call.options}
	return unary(ctx, c, call.timeout, c.router.Explain, request)
}

// unary makes one call, retries of gRPC included, within its deadline.
func unary[Request, Reply any](
	ctx context.Context, c *Client, timeout time.Duration,
	method func(context.Context, *Request, ...grpc.CallOption) (*Reply, error), request *Request,
) (*Reply, error) {
	ctx, cancel := c.begin(ctx, timeout)
	defer cancel()
	var header, trailer metadata.MD
	reply, err := method(ctx, request, grpc.Header(&header), grpc.Trailer(&trailer))
	if err != nil {
		return nil, c.failed(err, header, trailer)
	}
	return reply, nil
}

// failed reads what a call ended with. Close takes the connection away from the calls that run, and on one that was draining
// gRPC may take that for a connection that broke: it says UNAVAILABLE, which would ask for another try.
func (c *Client) failed(err error, header, trailer metadata.MD) *Error {
	if c.closed.Load() && status.Code(err) == codes.Unavailable {
		err = status.Error(codes.Canceled, "the client was closed")
	}
	return newError(err, header, trailer)
}

// begin gives a call its deadline, the sooner of its own and its context's, and the caller's trace context.
func (c *Client) begin(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(withTraceContext(ctx, c.propagator), timeout)
}
