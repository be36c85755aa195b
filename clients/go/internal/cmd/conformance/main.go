// Command conformance puts a list of cases to a mesh through the public API of the Go client and prints what came of
// each, for a test that compares all clients of the project.
//
//	conformance --target 127.0.0.1:7600 --cases FILE.json
//
// prints one line of JSON a case. With --keep-asking it repeats the first case over one client until its standard input
// is closed, and then prints how often it asked and what failed. The exit code is 0 unless the program itself failed.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"

	consilium "consilium.dev/go"
)

// pause is how long --keep-asking waits after a call that failed.
const pause = 100 * time.Millisecond

func main() {
	target := flag.String("target", "127.0.0.1:7600", "any gRPC `target`")
	file := flag.String("cases", "", "a `file` with a JSON list of cases")
	keepAsking := flag.Bool("keep-asking", false, "repeat the first case until standard input is closed")
	flag.Parse()
	if err := run(*target, *file, *keepAsking); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func run(target, file string, keepAsking bool) error {
	cases, err := readCases(file)
	if err != nil {
		return err
	}
	client, err := consilium.New(target, consilium.WithPlaintext())
	if err != nil {
		return err
	}
	defer client.Close()

	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	if keepAsking {
		if len(cases) == 0 {
			return errors.New("there is no case to repeat")
		}
		tally, err := repeat(client, cases[0], closed(os.Stdin))
		if err != nil {
			return err
		}
		return out.Encode(tally)
	}
	for _, test := range cases {
		result, err := test.put(context.Background(), client)
		if err != nil {
			return fmt.Errorf("%s: %w", test.Name, err)
		}
		if err := out.Encode(result); err != nil {
			return err
		}
	}
	return nil
}

// A tally is what came of a case that was put again and again.
type tally struct {
	Asked  int            `json:"asked"`
	Failed int            `json:"failed"`
	Errors map[string]int `json:"errors"`
}

// repeat puts the case, one call after the other, until told to stop. A call that runs then is let finish: it was asked,
// and what becomes of it counts.
func repeat(client *consilium.Client, test testCase, stop <-chan struct{}) (tally, error) {
	tally := tally{Errors: make(map[string]int)}
	for {
		select {
		case <-stop:
			return tally, nil
		default:
		}
		result, err := test.put(context.Background(), client)
		if err != nil {
			return tally, fmt.Errorf("%s: %w", test.Name, err)
		}
		tally.Asked++
		if result.Error != nil {
			tally.Failed++
			tally.Errors[result.Error.Code]++
			fmt.Fprintf(os.Stderr, "conformance: call %d: %s: %s\n", tally.Asked, result.Error.Code, result.Error.Message)
			// Where nobody listens a call fails in microseconds, and the tally would count little else.
			select {
			case <-stop:
			case <-time.After(pause):
			}
		}
	}
}

// closed returns a channel that is closed when there is nothing more to read.
func closed(input io.Reader) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.Discard, input) // an input that fails has ended, too
	}()
	return done
}

// A failure is an error of a call in the words of the list.
type failure struct {
	Code       string            `json:"code"`
	Reason     string            `json:"reason"`
	Message    string            `json:"message"`
	RequestID  string            `json:"request_id"`
	Violations []violation       `json:"violations"`
	RetryAfter *float64          `json:"retry_after_s"`
	Metadata   map[string]string `json:"metadata"`
}

type violation struct {
	Field   string `json:"field"`
	Problem string `json:"problem"`
}

// newFailure fails itself when a call ended with an error that is no *consilium.Error: then the client is wrong.
func newFailure(err error) (*failure, error) {
	var from *consilium.Error
	if !errors.As(err, &from) {
		return nil, fmt.Errorf("not an error of the client's own type: %T: %w", err, err)
	}
	to := &failure{
		Code:       code.Code(from.Code).String(),
		Reason:     from.Reason,
		Message:    from.Message,
		RequestID:  from.RequestID,
		Violations: []violation{},
		Metadata:   map[string]string{},
	}
	for _, each := range from.Violations {
		to.Violations = append(to.Violations, violation{each.Field, each.Problem})
	}
	for key, value := range from.Metadata {
		to.Metadata[key] = value
	}
	if after, ok := from.RetryAfter(); ok {
		seconds := after.Seconds()
		to.RetryAfter = &seconds
	}
	return to, nil
}
