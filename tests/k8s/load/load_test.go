package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	consilium "consilium.dev/go"
	"consilium.dev/go/consiliumv1"
)

// A scripted router says what the question asks for.
type scripted struct {
	consiliumv1.UnimplementedRouterServiceServer
}

func (scripted) Dispatch(_ context.Context, request *consiliumv1.DispatchRequest) (*consiliumv1.DispatchResponse, error) {
	switch text := request.GetQuery().GetText(); text {
	case "fail":
		return nil, status.Error(codes.Internal, "it broke")
	case "refuse":
		refusal := &consiliumv1.Decision{Outcome: consiliumv1.Decision_OUTCOME_REFUSED}
		return &consiliumv1.DispatchResponse{Decision: refusal}, nil
	case "say nothing":
		return &consiliumv1.DispatchResponse{}, nil
	default:
		answer := &consiliumv1.Answer{}
		said := &consiliumv1.Reply{
			Expert: text, Instance: text + "-1",
			Result:   &consiliumv1.Reply_Answer{Answer: answer},
			Attempts: []*consiliumv1.Attempt{{}, {}},
		}
		return &consiliumv1.DispatchResponse{Answer: answer, Replies: []*consiliumv1.Reply{said}}, nil
	}
}

// asked puts each question once and returns the last line of the report.
func asked(t *testing.T, questions ...question) (summary, bool) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	consiliumv1.RegisterRouterServiceServer(server, scripted{})
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	wire := new(wire)
	client, err := consilium.New(listener.Addr().String(), consilium.WithDialOptions(grpc.WithStatsHandler(wire)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })

	tally := newTally(time.Now())
	load := load{client: client, questions: questions, timeout: time.Minute, tally: tally}
	var out bytes.Buffer
	allRight, err := report(&out, tally, wire, func() {
		for _, q := range questions {
			load.ask(q)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var last struct{ Summary summary }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
		t.Fatal(err)
	}
	return last.Summary, allRight
}

func TestAnswersAndRefusalsAreRight(t *testing.T) {
	got, allRight := asked(t,
		question{Text: "general", Expert: "general"},
		question{Text: "anybody"},
		question{Text: "refuse", Outcome: "refused"})
	if !allRight || got.Answered != 2 || got.Refused != 1 || got.Asked != 3 {
		t.Errorf("all right: %v, %+v", allRight, got)
	}
	if got.Experts["general"] != 1 || got.Instances["anybody-1"] != 1 || got.Again != 2 {
		t.Errorf("who answered: %+v", got)
	}
	if got.Attempts != 3 || got.Connections != 1 || len(got.Peers) != 1 {
		t.Errorf("on the wire: %+v", got)
	}
}

func TestWhatShouldNotHappenIsNotRight(t *testing.T) {
	for name, test := range map[string]struct {
		question question
		wrong    int
		failed   int
		told     failure
	}{
		"an error":          {question{Text: "fail", Expert: "a"}, 0, 1, failure{Code: "Internal", Message: "it broke", Expected: "a"}},
		"another expert":    {question{Text: "b", Expert: "a"}, 1, 0, failure{Expert: "b", Expected: "a"}},
		"an answer":         {question{Text: "b", Outcome: "refused"}, 1, 0, failure{Expert: "b", Expected: "nobody"}},
		"a refusal":         {question{Text: "refuse", Expert: "a"}, 1, 0, failure{Expert: "nobody", Expected: "a"}},
		"no reply to speak": {question{Text: "say nothing"}, 1, 0, failure{Expert: "nobody"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, allRight := asked(t, test.question)
			if allRight || got.Wrong != test.wrong || got.Failed != test.failed || len(got.Failures) != 1 {
				t.Fatalf("all right: %v, %+v", allRight, got)
			}
			told := got.Failures[0]
			told.At, told.AfterMS = "", 0
			if told != test.told {
				t.Errorf("told %+v", told)
			}
		})
	}
}

func TestOnlyTheFirstFailuresAreTold(t *testing.T) {
	questions := make([]question, toldFailures+5)
	for i := range questions {
		questions[i].Text = "fail"
	}
	got, _ := asked(t, questions...)
	if got.Failed != toldFailures+5 || len(got.Failures) != toldFailures {
		t.Errorf("%d failed, %d told", got.Failed, len(got.Failures))
	}
}

func TestNothingAskedIsNotRight(t *testing.T) {
	if _, allRight := asked(t); allRight {
		t.Error("a load that asked nothing has shown nothing")
	}
}

func TestTheLongestGapLastsUntilTheEnd(t *testing.T) {
	begun := time.Now()
	at := func(seconds int) time.Time { return begun.Add(time.Duration(seconds) * time.Second) }
	tally := newTally(begun)
	tally.count(verdict{outcome: answered}, begun, at(2))
	tally.count(verdict{outcome: failed}, at(2), at(5))
	if got := tally.summary(at(3), new(wire)).GapMS; got != 2000 {
		t.Errorf("before the first answer nothing was answered for 2 s, not %v ms", got)
	}
	if got := tally.summary(at(9), new(wire)).GapMS; got != 7000 {
		t.Errorf("since the last answer it is 7 s, not %v ms", got)
	}
}

func TestQuantiles(t *testing.T) {
	var latencies []time.Duration
	for i := 100; i > 0; i-- {
		latencies = append(latencies, time.Duration(i)*time.Millisecond)
	}
	got := quantiles(latencies)
	if got["p50"] != 51 || got["p90"] != 91 || got["p99"] != 100 || got["max"] != 100 {
		t.Errorf("%v", got)
	}
}

func TestQuestionsOfAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "questions.jsonl")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"text": "a", "expert": "general", "attributes": {"audience": ["patient"]}, "labels": {"desk": "front"}}` + "\n\n" +
		`{"text": "b", "expert": null, "outcome": "refused"}` + "\n")
	got, err := readQuestions(path)
	if err != nil || len(got) != 2 || got[0].Expert != "general" || got[1].Outcome != "refused" {
		t.Errorf("%+v, %v", got, err)
	}
	if len(got[0].options()) != 2 {
		t.Error("an attribute and a label are options of the call")
	}
	for _, bad := range []string{"", "{\n", `{"expert": "general"}`} {
		write(bad)
		if _, err := readQuestions(path); err == nil {
			t.Errorf("%q should not be questions", bad)
		}
	}
}
