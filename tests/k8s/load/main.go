// Command load asks a mesh without a pause, and counts what came back.
//
//	load -target dns:///consilium-router:7600 -rate 20 -questions questions.jsonl
//	load stop
//
// It asks through our Go client, as an application would, so a failure that it counts is one that an application would have
// had after all retries. Each second it prints a line of JSON, and a last one with everything when -for is over or SIGTERM
// arrives. The exit code is 0 when every question was answered by whom it should be, 1 when one was not, 2 when the program
// could not start.
//
// `load stop` sends that SIGTERM to process 1: it is what `kubectl exec` runs in a pod whose image has no other program.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc"

	consilium "consilium.dev/go"
)

// settings are the command line.
type settings struct {
	target      string
	questions   string
	rate        float64
	workers     int
	lasts       time.Duration
	timeout     time.Duration
	ca          string
	certificate string
	key         string
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "stop" {
		exit(0, syscall.Kill(1, syscall.SIGTERM))
	}
	var s settings
	flag.StringVar(&s.target, "target", "dns:///consilium-router:7600", "the routers, as a gRPC `name`")
	flag.StringVar(&s.questions, "questions", "", "a `file` of questions, as lines like those of demo.jsonl; without it a few of the clinic's")
	flag.Float64Var(&s.rate, "rate", 20, "questions a `second`")
	flag.IntVar(&s.workers, "workers", 64, "how many questions may be open at a time")
	flag.DurationVar(&s.lasts, "for", 0, "how `long`; 0: until SIGTERM")
	flag.DurationVar(&s.timeout, "timeout", consilium.DefaultTimeout, "how long a question may take, retries included")
	flag.StringVar(&s.ca, "ca", "", "speak TLS, and believe the routers that this PEM `file` vouches for")
	flag.StringVar(&s.certificate, "certificate", "", "the PEM `file` of a certificate to show")
	flag.StringVar(&s.key, "key", "", "the PEM `file` with its key")
	flag.Parse()

	allRight, err := run(s)
	if err == nil && !allRight {
		os.Exit(1)
	}
	exit(0, err)
}

func exit(code int, err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		code = 2
	}
	os.Exit(code)
}

// run reports whether every question was answered by whom it should be.
func run(s settings) (bool, error) {
	if s.rate <= 0 || s.workers <= 0 {
		return false, errors.New("-rate and -workers must be more than 0")
	}
	questions, err := readQuestions(s.questions)
	if err != nil {
		return false, err
	}
	security, err := s.security()
	if err != nil {
		return false, err
	}
	wire := new(wire)
	client, err := consilium.New(s.target, security, consilium.WithDialOptions(grpc.WithStatsHandler(wire)))
	if err != nil {
		return false, err
	}
	defer client.Close()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if s.lasts > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.lasts)
		defer cancel()
	}
	tally := newTally(time.Now())
	load := load{client: client, questions: questions, timeout: s.timeout, tally: tally}
	return report(os.Stdout, tally, wire, func() { load.run(ctx, s.rate, s.workers) })
}

// security is TLS where there is an authority to believe, and plaintext otherwise.
func (s settings) security() (consilium.Option, error) {
	if s.ca == "" {
		if s.certificate != "" || s.key != "" {
			return nil, errors.New("-certificate and -key need -ca")
		}
		return consilium.WithPlaintext(), nil
	}
	pem, err := os.ReadFile(s.ca)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate in PEM", s.ca)
	}
	if s.certificate != "" || s.key != "" {
		own, err := tls.LoadX509KeyPair(s.certificate, s.key)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{own}
	}
	return consilium.WithTLS(config), nil
}
