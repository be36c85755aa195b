package consilium

import (
	"context"

	"consilium.dev/go/consiliumv1"
)

// Metrics say how good an answer was. Which names there are, and of what kind each is, the mesh declares.
type Metrics []*consiliumv1.SendFeedbackRequest_Metric

// Bool is a metric that is true or false, such as "helpful".
func Bool(name string, value bool) *consiliumv1.SendFeedbackRequest_Metric {
	return &consiliumv1.SendFeedbackRequest_Metric{
		Name: name, Value: &consiliumv1.SendFeedbackRequest_Metric_Boolean{Boolean: value},
	}
}

// Number is a metric that counts or measures, such as "rating".
func Number(name string, value float64) *consiliumv1.SendFeedbackRequest_Metric {
	return &consiliumv1.SendFeedbackRequest_Metric{
		Name: name, Value: &consiliumv1.SendFeedbackRequest_Metric_Number{Number: value},
	}
}

// Text is a metric in words, such as "comment".
func Text(name, value string) *consiliumv1.SendFeedbackRequest_Metric {
	return &consiliumv1.SendFeedbackRequest_Metric{
		Name: name, Value: &consiliumv1.SendFeedbackRequest_Metric_Text{Text: value},
	}
}

// Feedback says how good the answer was that came with the token: the reply's GetFeedbackToken, or that of a stream's last
// event, GetDone. The token may be kept and sent later, by another process, to any router of the mesh.
//
//	err := client.Feedback(ctx, reply.GetFeedbackToken(), consilium.Metrics{
//		consilium.Bool("helpful", true),
//		consilium.Number("rating", 4),
//	})
//
// Of the options only [Timeout] has a meaning here. The error, if there is one, is an [*Error].
func (c *Client) Feedback(ctx context.Context, token string, metrics Metrics, options ...CallOption) error {
	call, invalid := newCall(c.defaults, nil, options)
	if invalid != nil {
		return invalid
	}
	request := &consiliumv1.SendFeedbackRequest{Token: token, Metrics: metrics}
	_, err := unary(ctx, c, call.timeout, c.router.SendFeedback, request)
	return err
}
