package main

import (
	"context"
	"sync"
	"time"

	consilium "consilium.dev/go"
	"consilium.dev/go/consiliumv1"
)

// A load asks its questions in turn, again and again.
type load struct {
	client    *consilium.Client
	questions []question
	timeout   time.Duration
	tally     *tally
}

// run asks at the given rate until ctx is over, and returns when the last answer is there. The rate is the clock's, not the
// mesh's: when answers become slow, more questions are open, as it is with callers who do not know each other. A question
// for which no worker is free is not asked, and counted as held.
func (l load) run(ctx context.Context, rate float64, workers int) {
	due := make(chan question)
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for q := range due {
				l.ask(q)
			}
		})
	}
	clock := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer clock.Stop()
	for next := 0; ; next++ {
		select {
		case <-ctx.Done():
			close(due)
			running.Wait()
			return
		case <-clock.C:
			select {
			case due <- l.questions[next%len(l.questions)]:
			default:
				l.tally.hold()
			}
		}
	}
}

// ask is not ended by the load's own end: what has been asked is worth waiting for, and has a deadline.
func (l load) ask(q question) {
	l.tally.ask()
	begun := time.Now()
	reply, err := l.client.Ask(context.Background(), q.Text, append(q.options(), consilium.Timeout(l.timeout))...)
	l.tally.count(judge(q, reply, err), begun, time.Now())
}

// A verdict is what came of one question.
type verdict struct {
	outcome  outcome
	expert   string
	instance string
	// How often the router tried, beyond the first time.
	again    int
	expected string
	err      error
}

type outcome int

const (
	answered outcome = iota
	refused
	// Somebody answered, but not who should.
	wrong
	failed
)

func judge(q question, reply *consiliumv1.DispatchResponse, err error) verdict {
	v := verdict{expected: q.Expert, err: err}
	if q.Outcome == "refused" {
		v.expected = "nobody"
	}
	if err != nil {
		v.outcome = failed
		return v
	}
	v.expert = "nobody"
	for _, said := range reply.GetReplies() {
		v.again += max(0, len(said.GetAttempts())-1)
		if said.GetAnswer() != nil && v.instance == "" {
			v.expert, v.instance = said.GetExpert(), said.GetInstance()
		}
	}
	switch {
	case v.expected != "" && v.expert != v.expected:
		v.outcome = wrong
	case reply.GetAnswer() != nil:
		v.outcome = answered
	case reply.GetDecision().GetOutcome() == consiliumv1.Decision_OUTCOME_REFUSED:
		v.outcome = refused
	default: // Neither an answer, nor a refusal, nor an error: the contract has no such reply.
		v.outcome = wrong
	}
	return v
}
