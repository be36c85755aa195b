package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	consilium "consilium.dev/go"
	"consilium.dev/go/consiliumv1"
)

// A testCase is one entry of the list. Messages are in protobuf's JSON.
type testCase struct {
	Name     string   `json:"name"`
	Call     string   `json:"call"`
	Deadline *float64 `json:"deadline_s"`
	Request  struct {
		Query   json.RawMessage `json:"query"`
		Context json.RawMessage `json:"context"`
		Options json.RawMessage `json:"options"`
	} `json:"request"`
	Metrics map[string]any `json:"metrics"`
	Token   *string        `json:"token"`
}

// A result is the line that is printed for a case.
type result struct {
	Case   string            `json:"case"`
	Reply  json.RawMessage   `json:"reply,omitempty"`
	Events []json.RawMessage `json:"events,omitzero"`
	Error  *failure          `json:"error,omitempty"`
}

func readCases(file string) ([]testCase, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var cases []testCase
	if err := json.Unmarshal(content, &cases); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return cases, nil
}

// put makes the case's call. Its error says that the case cannot be put, not that the call failed.
func (c testCase) put(ctx context.Context, client *consilium.Client) (result, error) {
	query, options, err := c.request()
	if err != nil {
		return result{}, err
	}
	switch c.Call {
	case "ask":
		reply, err := ask(ctx, client, query, options)
		return c.replied(reply, err)
	case "explain":
		reply, err := explain(ctx, client, query, options)
		return c.replied(reply, err)
	case "stream":
		return c.stream(ctx, client, query, options)
	case "feedback":
		return c.feedback(ctx, client, query, options)
	default:
		return result{}, fmt.Errorf("there is no call %q", c.Call)
	}
}

func (c testCase) stream(
	ctx context.Context, client *consilium.Client, query *consiliumv1.Query, options []consilium.CallOption,
) (result, error) {
	events := client.StreamQuery(ctx, query, options...)
	if onlyText(query) {
		events = client.Stream(ctx, query.GetText(), inWords(query, options)...)
	}
	outcome := result{Case: c.Name, Events: []json.RawMessage{}}
	for event, err := range events {
		if err != nil {
			outcome.Error, err = newFailure(err)
			return outcome, err
		}
		line, err := protojson.Marshal(event)
		if err != nil {
			return result{}, err
		}
		outcome.Events = append(outcome.Events, line)
	}
	return outcome, nil
}

// feedback sends the case's metrics with its token, or with that of a reply that it asks for.
func (c testCase) feedback(
	ctx context.Context, client *consilium.Client, query *consiliumv1.Query, options []consilium.CallOption,
) (result, error) {
	metrics, err := c.metrics()
	if err != nil {
		return result{}, err
	}
	token := c.Token
	if token == nil {
		reply, err := ask(ctx, client, query, options)
		if err != nil {
			return c.replied(nil, err)
		}
		token = &reply.FeedbackToken
	}
	err = client.Feedback(ctx, *token, metrics, options...)
	return c.replied(&consiliumv1.SendFeedbackResponse{}, err)
}

// replied makes the line of a call with one reply.
func (c testCase) replied(reply proto.Message, failed error) (result, error) {
	outcome := result{Case: c.Name}
	var err error
	if failed != nil {
		outcome.Error, err = newFailure(failed)
	} else {
		outcome.Reply, err = protojson.Marshal(reply)
	}
	return outcome, err
}

func ask(
	ctx context.Context, client *consilium.Client, query *consiliumv1.Query, options []consilium.CallOption,
) (*consiliumv1.DispatchResponse, error) {
	if onlyText(query) {
		return client.Ask(ctx, query.GetText(), inWords(query, options)...)
	}
	return client.AskQuery(ctx, query, options...)
}

func explain(
	ctx context.Context, client *consilium.Client, query *consiliumv1.Query, options []consilium.CallOption,
) (*consiliumv1.ExplainResponse, error) {
	if onlyText(query) {
		return client.Explain(ctx, query.GetText(), inWords(query, options)...)
	}
	return client.ExplainQuery(ctx, query, options...)
}

// onlyText reports whether the API's short form says all of the query.
func onlyText(query *consiliumv1.Query) bool {
	return len(query.GetParts()) == 0 && len(query.GetContext()) == 0
}

// inWords adds what the short form says by options.
func inWords(query *consiliumv1.Query, options []consilium.CallOption) []consilium.CallOption {
	for dimension, values := range query.GetAttributes() {
		options = append(options, consilium.Attribute(dimension, values.GetValues()...))
	}
	for name, value := range query.GetLabels() {
		options = append(options, consilium.Label(name, value))
	}
	return options
}

// request reads the case's messages and says in options what is in the last two of them.
func (c testCase) request() (*consiliumv1.Query, []consilium.CallOption, error) {
	var (
		query    consiliumv1.Query
		caller   consiliumv1.CallContext
		dispatch consiliumv1.DispatchOptions
	)
	for _, message := range []struct {
		from json.RawMessage
		into proto.Message
	}{{c.Request.Query, &query}, {c.Request.Context, &caller}, {c.Request.Options, &dispatch}} {
		if message.from == nil {
			continue
		}
		if err := protojson.Unmarshal(message.from, message.into); err != nil {
			return nil, nil, err
		}
	}
	options := append(callerOptions(&caller), dispatchOptions(&dispatch)...)
	if c.Deadline != nil {
		options = append(options, consilium.Timeout(time.Duration(*c.Deadline*float64(time.Second))))
	}
	return &query, options, nil
}

func callerOptions(caller *consiliumv1.CallContext) []consilium.CallOption {
	var options []consilium.CallOption
	for _, field := range []struct {
		value  string
		option func(string) consilium.CallOption
	}{
		{caller.GetRequestId(), consilium.RequestID},
		{caller.GetTenant(), consilium.Tenant},
		{caller.GetTier(), consilium.Tier},
		{caller.GetSubject(), consilium.Subject},
		{caller.GetPurpose(), consilium.Purpose},
	} {
		if field.value != "" {
			options = append(options, field.option(field.value))
		}
	}
	if caller.GetPriority() != consiliumv1.Priority_PRIORITY_UNSPECIFIED {
		options = append(options, consilium.Priority(caller.GetPriority()))
	}
	return options
}

func dispatchOptions(dispatch *consiliumv1.DispatchOptions) []consilium.CallOption {
	var options []consilium.CallOption
	if dispatch.TopK != nil {
		options = append(options, consilium.TopK(dispatch.GetTopK()))
	}
	if dispatch.MinConfidence != nil {
		options = append(options, consilium.MinConfidence(dispatch.GetMinConfidence()))
	}
	if len(dispatch.GetExperts()) > 0 {
		options = append(options, consilium.Experts(dispatch.GetExperts()...))
	}
	for expert, version := range dispatch.GetVersions() {
		options = append(options, consilium.Version(expert, version))
	}
	if dispatch.Combine != nil {
		options = append(options, consilium.Combine(dispatch.GetCombine()))
	}
	if dispatch.Priority != nil {
		options = append(options, consilium.Priority(dispatch.GetPriority()))
	}
	return options
}

// metrics are in the order of their names, so that every run sends the same.
func (c testCase) metrics() (consilium.Metrics, error) {
	var metrics consilium.Metrics
	for _, name := range slices.Sorted(maps.Keys(c.Metrics)) {
		switch value := c.Metrics[name].(type) {
		case bool:
			metrics = append(metrics, consilium.Bool(name, value))
		case float64:
			metrics = append(metrics, consilium.Number(name, value))
		case string:
			metrics = append(metrics, consilium.Text(name, value))
		default:
			return nil, fmt.Errorf("metric %s is a %T", name, value)
		}
	}
	return metrics, nil
}
