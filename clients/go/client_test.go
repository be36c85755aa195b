package consilium_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	consilium "consilium.dev/go"
	"consilium.dev/go/consiliumv1"
)

func TestAskReturnsTheReply(t *testing.T) {
	want := &consiliumv1.DispatchResponse{
		RequestId:     "r-1",
		Decision:      &consiliumv1.Decision{Outcome: consiliumv1.Decision_OUTCOME_DISPATCHED},
		Answer:        &consiliumv1.Answer{Body: &consiliumv1.Answer_Text{Text: &consiliumv1.Text{Text: "yes"}}},
		FeedbackToken: "token",
	}
	var asked *consiliumv1.DispatchRequest
	client := connect(t, &router{
		dispatch: func(_ context.Context, request *consiliumv1.DispatchRequest) (*consiliumv1.DispatchResponse, error) {
			asked = request
			return want, nil
		},
	})

	reply, err := client.Ask(patient(t), "may I?")
	if err != nil {
		t.Fatal(err)
	}
	requireEqual(t, reply, want)
	requireEqual(t, asked, &consiliumv1.DispatchRequest{Query: &consiliumv1.Query{Text: "may I?"}})
}

func TestExplainReturnsTheReply(t *testing.T) {
	want := &consiliumv1.ExplainResponse{
		RequestId: "r-2",
		Plan: &consiliumv1.Plan{Stages: []*consiliumv1.Plan_Stage{
			{Legs: []*consiliumv1.Plan_Leg{{Expert: "drug-interactions", Version: "1"}}},
		}},
	}
	var asked *consiliumv1.ExplainRequest
	client := connect(t, &router{
		explain: func(_ context.Context, request *consiliumv1.ExplainRequest) (*consiliumv1.ExplainResponse, error) {
			asked = request
			return want, nil
		},
	})

	reply, err := client.Explain(patient(t), "may I?", consilium.TopK(2))
	if err != nil {
		t.Fatal(err)
	}
	requireEqual(t, reply, want)
	requireEqual(t, asked, &consiliumv1.ExplainRequest{
		Query:   &consiliumv1.Query{Text: "may I?"},
		Options: &consiliumv1.DispatchOptions{TopK: proto.Uint32(2)},
	})
}

func TestARefusalIsAReply(t *testing.T) {
	client := connect(t, &router{
		dispatch: func(context.Context, *consiliumv1.DispatchRequest) (*consiliumv1.DispatchResponse, error) {
			decision := &consiliumv1.Decision{Outcome: consiliumv1.Decision_OUTCOME_REFUSED}
			return &consiliumv1.DispatchResponse{Decision: decision}, nil
		},
	})

	reply, err := client.Ask(patient(t), "who won?")
	if err != nil {
		t.Fatal(err)
	}
	if outcome := reply.GetDecision().GetOutcome(); outcome != consiliumv1.Decision_OUTCOME_REFUSED {
		t.Errorf("outcome %v", outcome)
	}
	if reply.GetAnswer() != nil {
		t.Errorf("an answer to a refused question: %v", reply.GetAnswer())
	}
}

func TestFeedbackSendsTokenAndMetrics(t *testing.T) {
	var sent *consiliumv1.SendFeedbackRequest
	client := connect(t, &router{
		feedback: func(_ context.Context, request *consiliumv1.SendFeedbackRequest) (*consiliumv1.SendFeedbackResponse, error) {
			sent = request
			return &consiliumv1.SendFeedbackResponse{}, nil
		},
	})

	err := client.Feedback(patient(t), "the-token", consilium.Metrics{
		consilium.Bool("helpful", false),
		consilium.Number("rating", 4.5),
		consilium.Text("comment", "clear"),
	})
	if err != nil {
		t.Fatal(err)
	}
	requireEqual(t, sent, &consiliumv1.SendFeedbackRequest{
		Token: "the-token",
		Metrics: []*consiliumv1.SendFeedbackRequest_Metric{
			{Name: "helpful", Value: &consiliumv1.SendFeedbackRequest_Metric_Boolean{Boolean: false}},
			{Name: "rating", Value: &consiliumv1.SendFeedbackRequest_Metric_Number{Number: 4.5}},
			{Name: "comment", Value: &consiliumv1.SendFeedbackRequest_Metric_Text{Text: "clear"}},
		},
	})
}

// The default of gRPC is 4 MiB, and a router's reply may be longer.
func TestALongReplyArrives(t *testing.T) {
	long := strings.Repeat("x", 20<<20)
	client := connect(t, &router{
		dispatch: func(context.Context, *consiliumv1.DispatchRequest) (*consiliumv1.DispatchResponse, error) {
			return &consiliumv1.DispatchResponse{FeedbackToken: long}, nil
		},
	})

	reply, err := client.Ask(patient(t), "text")
	if err != nil {
		t.Fatal(err)
	}
	if got := len(reply.GetFeedbackToken()); got != len(long) {
		t.Errorf("%d bytes of %d", got, len(long))
	}
}

func TestEveryCallNamesTheClient(t *testing.T) {
	server := &router{}
	client := connect(t, server)
	for method, err := range everyMethod(patient(t), client) {
		if err != nil {
			t.Errorf("%s: %v", method, err)
		}
	}
	for _, attempt := range server.seen() {
		agents := attempt.metadata.Get("user-agent")
		if len(agents) != 1 || !strings.HasPrefix(agents[0], "consilium-go/0.1.0 ") {
			t.Errorf("user agent %q", agents)
		}
	}
}

func TestTheCallersMetadataTravels(t *testing.T) {
	server := &router{}
	client := connect(t, server)
	ctx := metadata.AppendToOutgoingContext(patient(t), "authorization", "Bearer x")
	if _, err := client.Ask(ctx, "text"); err != nil {
		t.Fatal(err)
	}
	if got := server.seen()[0].metadata.Get("authorization"); len(got) != 1 || got[0] != "Bearer x" {
		t.Errorf("authorization %q", got)
	}
}

func TestTLS(t *testing.T) {
	// Only for its certificate, which is good for 127.0.0.1.
	web := httptest.NewTLSServer(nil)
	defer web.Close()
	address := serve(t, &router{}, grpc.Creds(credentials.NewServerTLSFromCert(&web.TLS.Certificates[0])))
	trusted := x509.NewCertPool()
	trusted.AddCert(web.Certificate())

	client := dial(t, address, consilium.WithTLS(&tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}))
	if _, err := client.Ask(patient(t), "text"); err != nil {
		t.Errorf("with the authority: %v", err)
	}
	stranger := dial(t, address, consilium.WithTLS(nil))
	if _, err := stranger.Ask(patient(t), "text"); status.Code(err) != codes.Unavailable {
		t.Errorf("without the authority: %v", err)
	}
}

func TestDialOptionsComeLast(t *testing.T) {
	server := &router{}
	client := connect(t, server, consilium.WithDialOptions(grpc.WithUserAgent("ward-app/1.0")))
	if _, err := client.Ask(patient(t), "text"); err != nil {
		t.Fatal(err)
	}
	if agent := server.seen()[0].metadata.Get("user-agent")[0]; !strings.HasPrefix(agent, "ward-app/1.0 ") {
		t.Errorf("user agent %q", agent)
	}
}

func TestNewSaysWhichOptionCannotBe(t *testing.T) {
	_, err := consilium.New("127.0.0.1:1", consilium.WithDialOptions(grpc.WithDefaultServiceConfig("{")))
	if err == nil || !strings.HasPrefix(err.Error(), "consilium: ") {
		t.Errorf("%v", err)
	}
}
