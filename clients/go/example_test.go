package consilium_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"

	consilium "consilium.dev/go"
	"consilium.dev/go/consiliumv1"
)

func ExampleClient_Ask() {
	// 127.0.0.1:7600 is where `consilium up meshes/clinic/mesh.yaml` listens; mesh is such an address.
	client, err := consilium.New(mesh)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	reply, err := client.Ask(context.Background(), "Can my patient take ibuprofen with warfarin?",
		consilium.Attribute("audience", "clinician"))
	if err != nil {
		log.Fatal(err)
	}
	if reply.GetDecision().GetOutcome() == consiliumv1.Decision_OUTCOME_REFUSED {
		fmt.Println("nobody here knows that")
		return
	}
	for _, passage := range reply.GetAnswer().GetPassages().GetPassages() {
		fmt.Printf("%s (%s)\n", passage.GetText(), passage.GetSource().GetTitle())
	}
	// Output: Avoid the combination: the risk of bleeding rises. (An example's label)
}

func ExampleClient_Ask_refused() {
	client, err := consilium.New(mesh)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	reply, err := client.Ask(context.Background(), "Who won the football world cup in 1998?")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(reply.GetDecision().GetOutcome(), reply.GetAnswer() == nil)
	// Output: OUTCOME_REFUSED true
}

func ExampleClient_Explain() {
	client, err := consilium.New(mesh)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	reply, err := client.Explain(context.Background(), "Can my patient take ibuprofen with warfarin?", consilium.TopK(2))
	if err != nil {
		log.Fatal(err)
	}
	for _, candidate := range reply.GetDecision().GetCandidates() {
		fmt.Printf("%-18s %.2f %v\n", candidate.GetExpert(), candidate.GetProbability(), candidate.GetSelected())
	}
	// Output:
	// drug-interactions  0.97 true
	// general            0.02 false
}

func ExampleClient_Stream() {
	client, err := consilium.New(mesh)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	for event, err := range client.Stream(context.Background(), "Can my patient take ibuprofen with warfarin?") {
		if err != nil {
			log.Fatal(err)
		}
		switch event := event.GetEvent().(type) {
		case *consiliumv1.StreamDispatchResponse_Decision:
			fmt.Println(event.Decision.GetOutcome())
		case *consiliumv1.StreamDispatchResponse_Delta:
			fmt.Print(event.Delta.GetText())
		case *consiliumv1.StreamDispatchResponse_Done:
			fmt.Println("\ndone, partial:", event.Done.GetPartial())
		}
	}
	// Output:
	// OUTCOME_DISPATCHED
	// Better avoid it.
	// done, partial: false
}

func ExampleClient_Feedback() {
	client, err := consilium.New(mesh)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	reply, err := client.Ask(context.Background(), "Can my patient take ibuprofen with warfarin?")
	if err != nil {
		log.Fatal(err)
	}
	err = client.Feedback(context.Background(), reply.GetFeedbackToken(), consilium.Metrics{
		consilium.Bool("helpful", true),
		consilium.Number("rating", 4),
		consilium.Text("comment", "clear"),
	})
	fmt.Println(err)
	// Output: <nil>
}

func ExampleError() {
	client, err := consilium.New(mesh, consilium.WithDefaults(consilium.Timeout(10*time.Second)))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	_, err = client.Ask(context.Background(), "Can my patient take ibuprofen with warfarin?", consilium.TopK(99))
	var failure *consilium.Error
	if errors.As(err, &failure) {
		fmt.Println(failure.Code, failure.Reason)
		for _, violation := range failure.Violations {
			fmt.Println(violation.Field+":", violation.Problem)
		}
		if after, ok := failure.RetryAfter(); ok {
			fmt.Println("try again in", after)
		}
	}
	// Output:
	// InvalidArgument INVALID_REQUEST
	// options.top_k: expected 1 to 16
}

// mesh is the address of a router that knows what the examples ask.
var mesh string

func TestMain(m *testing.M) {
	address, stop, err := exampleMesh().listen()
	if err != nil {
		log.Fatal(err)
	}
	mesh = address
	code := m.Run()
	stop()
	os.Exit(code)
}

func exampleMesh() *router {
	dispatched := &consiliumv1.Decision{
		Outcome: consiliumv1.Decision_OUTCOME_DISPATCHED,
		Candidates: []*consiliumv1.Decision_Candidate{
			{Expert: "drug-interactions", Version: "1", Probability: 0.97, Selected: true},
			{Expert: "general", Version: "1", Probability: 0.02},
		},
	}
	passages := &consiliumv1.Passages{Passages: []*consiliumv1.Passage{{
		Text:   "Avoid the combination: the risk of bleeding rises.",
		Source: &consiliumv1.Source{Title: "An example's label"},
	}}}
	return &router{
		dispatch: func(_ context.Context, request *consiliumv1.DispatchRequest) (*consiliumv1.DispatchResponse, error) {
			switch {
			case request.GetOptions().GetTopK() > 16:
				return nil, failure(codes.InvalidArgument, "1 field is wrong", reason("INVALID_REQUEST", nil),
					&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
						{Field: "options.top_k", Description: "expected 1 to 16"},
					}})
			case request.GetQuery().GetText() == "Who won the football world cup in 1998?":
				refused := &consiliumv1.Decision{Outcome: consiliumv1.Decision_OUTCOME_REFUSED}
				return &consiliumv1.DispatchResponse{Decision: refused}, nil
			}
			answer := &consiliumv1.Answer{Body: &consiliumv1.Answer_Passages{Passages: passages}}
			return &consiliumv1.DispatchResponse{Decision: dispatched, Answer: answer, FeedbackToken: "token"}, nil
		},
		explain: func(context.Context, *consiliumv1.ExplainRequest) (*consiliumv1.ExplainResponse, error) {
			return &consiliumv1.ExplainResponse{Decision: dispatched}, nil
		},
		stream: func(_ *consiliumv1.StreamDispatchRequest, events events) error {
			for _, event := range []*consiliumv1.StreamDispatchResponse{
				{Event: &consiliumv1.StreamDispatchResponse_Decision{Decision: dispatched}},
				delta("Better "), delta("avoid it."),
				{Event: &consiliumv1.StreamDispatchResponse_Done{Done: &consiliumv1.Done{}}},
			} {
				if err := events.Send(event); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
