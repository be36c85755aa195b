package consilium

import (
	"context"
	"errors"
	"io"
	"iter"

	"consilium.dev/go/consiliumv1"
)

// Stream is [Client.Ask] as it happens: the decision, pieces of text as experts write them, each expert's reply, and at
// last the combined answer.
//
//	for event, err := range client.Stream(ctx, text) {
//		if err != nil {
//			return err
//		}
//		fmt.Print(event.GetDelta().GetText())
//	}
//
// The call begins with the loop, and leaving the loop early cancels it. An error, an [*Error], is the last that the loop
// sees; the events before it stand. A loop over the same value again is a new call.
func (c *Client) Stream(
	ctx context.Context, text string, options ...CallOption,
) iter.Seq2[*consiliumv1.StreamDispatchResponse, error] {
	return c.StreamQuery(ctx, &consiliumv1.Query{Text: text}, options...)
}

// StreamQuery is [Client.Stream] for a query that is more than a text. The query is not changed.
func (c *Client) StreamQuery(
	ctx context.Context, query *consiliumv1.Query, options ...CallOption,
) iter.Seq2[*consiliumv1.StreamDispatchResponse, error] {
	return func(yield func(*consiliumv1.StreamDispatchResponse, error) bool) {
		call, invalid := newCall(c.defaults, query, options)
		if invalid != nil {
			yield(nil, invalid)
			return
		}
		ctx, cancel := c.begin(ctx, call.timeout)
		defer cancel()
		request := &consiliumv1.StreamDispatchRequest{Query: call.query, Context: call.context, Options: call.options}
		events, err := c.router.StreamDispatch(ctx, request)
		if err != nil {
			yield(nil, c.failed(err, nil, nil))
			return
		}
		for {
			event, err := events.Recv()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				header, _ := events.Header() // what the call ended with is err, and this could only repeat it
				yield(nil, c.failed(err, header, events.Trailer()))
				return
			}
			if !yield(event, nil) {
				return
			}
		}
	}
}
