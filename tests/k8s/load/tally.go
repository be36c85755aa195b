package main

import (
	"errors"
	"slices"
	"sync"
	"time"

	consilium "consilium.dev/go"
)

// Failures that are told one by one. The rest is counted.
const toldFailures = 20

// A tally counts what came of the questions. Latencies are kept all, eight bytes each: an hour of 20 a second is half a
// megabyte.
type tally struct {
	lock      sync.Mutex
	begun     time.Time
	counts    counts
	latencies []time.Duration
	// Of the current second.
	recent    []time.Duration
	lastRight time.Time
	gap       time.Duration
	experts   map[string]int
	instances map[string]int
	failures  []failure
}

type counts struct {
	Asked    int `json:"asked"`
	Answered int `json:"answered"`
	Refused  int `json:"refused"`
	Wrong    int `json:"wrong"`
	Failed   int `json:"failed"`
	// Not asked, because too many were open.
	Held int `json:"held"`
	// Attempts of routers beyond the first, because an instance failed or was slow.
	Again int `json:"again"`
}

// A failure, without the question's text.
type failure struct {
	At       string `json:"at"`
	AfterMS  int64  `json:"after_ms"`
	Code     string `json:"code,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Message  string `json:"message,omitempty"`
	Expert   string `json:"expert,omitempty"`
	Expected string `json:"expected,omitempty"`
}

func newTally(now time.Time) *tally {
	return &tally{begun: now, lastRight: now, experts: make(map[string]int), instances: make(map[string]int)}
}

func (t *tally) ask() {
	t.lock.Lock()
	defer t.lock.Unlock()
	t.counts.Asked++
}

func (t *tally) hold() {
	t.lock.Lock()
	defer t.lock.Unlock()
	t.counts.Held++
}

func (t *tally) count(v verdict, begun, ended time.Time) {
	t.lock.Lock()
	defer t.lock.Unlock()
	t.counts.Again += v.again
	t.latencies = append(t.latencies, ended.Sub(begun))
	t.recent = append(t.recent, ended.Sub(begun))
	switch v.outcome {
	case answered:
		t.counts.Answered++
	case refused:
		t.counts.Refused++
	case wrong:
		t.counts.Wrong++
	case failed:
		t.counts.Failed++
	}
	if v.instance != "" {
		t.experts[v.expert]++
		t.instances[v.instance]++
	}
	if v.outcome == answered || v.outcome == refused {
		t.gap = max(t.gap, ended.Sub(t.lastRight))
		t.lastRight = ended
	} else if len(t.failures) < toldFailures {
		t.failures = append(t.failures, told(v, begun, ended))
	}
}

func told(v verdict, begun, ended time.Time) failure {
	f := failure{
		At:       begun.UTC().Format("15:04:05.000"),
		AfterMS:  ended.Sub(begun).Milliseconds(),
		Expert:   v.expert,
		Expected: v.expected,
	}
	var known *consilium.Error
	if errors.As(v.err, &known) {
		f.Code, f.Reason, f.Message = known.Code.String(), known.Reason, known.Message
	} else if v.err != nil {
		f.Message = v.err.Error()
	}
	return f
}

// A summary is everything that is known at the end. Milliseconds.
type summary struct {
	counts
	Seconds     float64            `json:"seconds"`
	Attempts    int64              `json:"attempts"`
	Connections int64              `json:"connections"`
	Peers       map[string]int64   `json:"peers"`
	LatencyMS   map[string]float64 `json:"latency_ms"`
	// The longest time in which nothing was answered.
	GapMS     float64        `json:"gap_ms"`
	Experts   map[string]int `json:"experts"`
	Instances map[string]int `json:"instances"`
	Failures  []failure      `json:"failures"`
}

func (t *tally) summary(now time.Time, wire *wire) summary {
	t.lock.Lock()
	defer t.lock.Unlock()
	return summary{
		counts:      t.counts,
		Seconds:     now.Sub(t.begun).Seconds(),
		Attempts:    wire.attempts.Load(),
		Connections: wire.connections.Load(),
		Peers:       wire.peersByAddress(),
		LatencyMS:   quantiles(t.latencies),
		GapMS:       milliseconds(max(t.gap, now.Sub(t.lastRight))),
		Experts:     t.experts,
		Instances:   t.instances,
		Failures:    append([]failure{}, t.failures...),
	}
}

// A second is what one line of progress says: counts since the beginning, latencies of the last second.
type second struct {
	counts
	At        string             `json:"at"`
	LatencyMS map[string]float64 `json:"latency_ms"`
}

func (t *tally) second(now time.Time) second {
	t.lock.Lock()
	defer t.lock.Unlock()
	recent := t.recent
	t.recent = nil
	return second{counts: t.counts, At: now.UTC().Format("15:04:05"), LatencyMS: quantiles(recent)}
}

func (c counts) allRight() bool {
	return c.Wrong == 0 && c.Failed == 0 && c.Held == 0 && c.Answered+c.Refused == c.Asked && c.Asked > 0
}

// quantiles by the nearest rank; empty where nothing was measured.
func quantiles(latencies []time.Duration) map[string]float64 {
	if len(latencies) == 0 {
		return map[string]float64{}
	}
	sorted := slices.Sorted(slices.Values(latencies))
	rank := func(share float64) float64 {
		return milliseconds(sorted[min(len(sorted)-1, int(share*float64(len(sorted))))])
	}
	return map[string]float64{"p50": rank(0.5), "p90": rank(0.9), "p99": rank(0.99), "max": rank(1)}
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000
}
