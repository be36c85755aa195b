package consilium_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	consilium "consilium.dev/go"
	"consilium.dev/go/consiliumv1"
)

// requests returns a router that keeps the last request.
func requests(last **consiliumv1.DispatchRequest) *router {
	return &router{
		dispatch: func(_ context.Context, request *consiliumv1.DispatchRequest) (*consiliumv1.DispatchResponse, error) {
			*last = request
			return &consiliumv1.DispatchResponse{}, nil
		},
	}
}

func TestEveryOptionReachesItsField(t *testing.T) {
	var asked *consiliumv1.DispatchRequest
	client := connect(t, requests(&asked))

	_, err := client.Ask(patient(t), "text",
		consilium.Attribute("audience", "clinician", "patient"),
		consilium.Attribute("jurisdiction", "eu"),
		consilium.Label("desk", "discharge"),
		consilium.Label("document", "medication-list"),
		consilium.TopK(0),
		consilium.MinConfidence(0),
		consilium.Experts("general", "drug-interactions"),
		consilium.Version("general", "2"),
		consilium.Version("drug-interactions", "1"),
		consilium.Combine(consiliumv1.Combine_COMBINE_ALL),
		consilium.Priority(consiliumv1.Priority_PRIORITY_BATCH),
		consilium.RequestID("r-1"),
		consilium.Tenant("ward-7"),
		consilium.Tier("gold"),
		consilium.Subject("dr-who"),
		consilium.Purpose("treatment"),
	)
	if err != nil {
		t.Fatal(err)
	}
	requireEqual(t, asked, &consiliumv1.DispatchRequest{
		Query: &consiliumv1.Query{
			Text: "text",
			Attributes: map[string]*consiliumv1.Values{
				"audience":     {Values: []string{"clinician", "patient"}},
				"jurisdiction": {Values: []string{"eu"}},
			},
			Labels: map[string]string{"desk": "discharge", "document": "medication-list"},
		},
		Context: &consiliumv1.CallContext{
			RequestId: "r-1", Tenant: "ward-7", Tier: "gold", Subject: "dr-who", Purpose: "treatment",
			Priority: consiliumv1.Priority_PRIORITY_BATCH,
		},
		Options: &consiliumv1.DispatchOptions{
			// Zero is a value here, and not the same as unset.
			TopK:          proto.Uint32(0),
			MinConfidence: proto.Float64(0),
			Experts:       []string{"general", "drug-interactions"},
			Versions:      map[string]string{"general": "2", "drug-interactions": "1"},
			Combine:       consiliumv1.Combine_COMBINE_ALL.Enum(),
		},
	})
}

func TestTheCallAndTheQueryCountBeforeTheDefaults(t *testing.T) {
	var asked *consiliumv1.DispatchRequest
	client := connect(t, requests(&asked), consilium.WithDefaults(
		consilium.Tenant("ward-7"),
		consilium.TopK(1),
		consilium.Experts("general"),
		consilium.Attribute("audience", "patient"),
		consilium.Label("a", "default"), consilium.Label("b", "default"), consilium.Label("c", "default"),
	))
	query := &consiliumv1.Query{
		Text:       "text",
		Attributes: map[string]*consiliumv1.Values{"audience": {Values: []string{"clinician"}}},
		Labels:     map[string]string{"b": "query"},
		Context:    []*consiliumv1.Turn{{Role: consiliumv1.Turn_ROLE_USER, Text: "before"}},
	}

	_, err := client.AskQuery(patient(t), query, consilium.Label("c", "call"), consilium.TopK(3), consilium.Experts("x"))
	if err != nil {
		t.Fatal(err)
	}
	requireEqual(t, asked, &consiliumv1.DispatchRequest{
		Query: &consiliumv1.Query{
			Text:       "text",
			Attributes: map[string]*consiliumv1.Values{"audience": {Values: []string{"clinician"}}},
			Labels:     map[string]string{"a": "default", "b": "query", "c": "call"},
			Context:    query.Context,
		},
		Context: &consiliumv1.CallContext{Tenant: "ward-7"},
		Options: &consiliumv1.DispatchOptions{TopK: proto.Uint32(3), Experts: []string{"x"}},
	})

	// The next call is a new one: it gets the defaults, and nothing of the call before.
	if _, err := client.Ask(patient(t), "next"); err != nil {
		t.Fatal(err)
	}
	requireEqual(t, asked, &consiliumv1.DispatchRequest{
		Query: &consiliumv1.Query{
			Text:       "next",
			Attributes: map[string]*consiliumv1.Values{"audience": {Values: []string{"patient"}}},
			Labels:     map[string]string{"a": "default", "b": "default", "c": "default"},
		},
		Context: &consiliumv1.CallContext{Tenant: "ward-7"},
		Options: &consiliumv1.DispatchOptions{TopK: proto.Uint32(1), Experts: []string{"general"}},
	})
}

func TestTheCallersQueryIsNotChanged(t *testing.T) {
	client := connect(t, &router{})
	query := &consiliumv1.Query{Text: "text", Labels: map[string]string{"a": "1"}}
	before := proto.Clone(query)

	options := []consilium.CallOption{consilium.Label("b", "2"), consilium.Attribute("audience", "patient")}
	if _, err := client.AskQuery(patient(t), query, options...); err != nil {
		t.Fatal(err)
	}
	requireEqual(t, query, before)
}

func TestWhatTheQuerySaysAnOptionMayNotSayAgain(t *testing.T) {
	server := &router{}
	client := connect(t, server)
	query := &consiliumv1.Query{
		Text:       "text",
		Attributes: map[string]*consiliumv1.Values{"audience": {Values: []string{"clinician"}}},
		Labels:     map[string]string{"desk": "discharge"},
	}
	options := []consilium.CallOption{
		consilium.Label("desk", "discharge"), consilium.Label("ward", "7"), consilium.Attribute("audience", "patient"),
	}

	failures := make(map[string]error)
	_, failures["AskQuery"] = client.AskQuery(patient(t), query, options...)
	_, failures["ExplainQuery"] = client.ExplainQuery(patient(t), query, options...)
	for _, err := range client.StreamQuery(patient(t), query, options...) {
		failures["StreamQuery"] = err
	}
	for _, method := range []string{"AskQuery", "ExplainQuery", "StreamQuery"} {
		var failure *consilium.Error
		if !errors.As(failures[method], &failure) || failure.Code != codes.InvalidArgument || failure.Retryable() {
			t.Errorf("%s: %v", method, failures[method])
			continue
		}
		var fields []string
		for _, violation := range failure.Violations {
			fields = append(fields, violation.Field)
		}
		if want := []string{"query.labels.desk", "query.attributes.audience"}; !slices.Equal(fields, want) {
			t.Errorf("%s: fields %q", method, fields)
		}
	}
	if attempts := len(server.seen()); attempts > 0 {
		t.Errorf("%d calls were made", attempts)
	}
}
