package main

import (
	"encoding/json"
	"io"
	"time"
)

// report runs a load, writes a line of JSON for each second of it and one with everything at the end, and returns whether all
// was right.
func report(out io.Writer, tally *tally, wire *wire, run func()) (bool, error) {
	over := make(chan struct{})
	go func() {
		defer close(over)
		run()
	}()
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	clock := time.NewTicker(time.Second)
	defer clock.Stop()
	for {
		select {
		case now := <-clock.C:
			if err := lines.Encode(tally.second(now)); err != nil {
				return false, err
			}
		case <-over:
			summary := tally.summary(time.Now(), wire)
			return summary.allRight(), lines.Encode(map[string]any{"summary": summary})
		}
	}
}
