package consilium

import (
	"context"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	errorDomain       = "consilium.dev"
	requestIDMetadata = "consilium-request-id"
	pushbackMetadata  = "grpc-retry-pushback-ms"
)

// An Error is how a call failed, read from the status and its details. Every error of a call is one:
//
//	var failure *consilium.Error
//	if errors.As(err, &failure) && failure.Reason == "UNKNOWN_EXPERT" {
//		…
//	}
//
// Unwrap gives gRPC's own error. [errors.Is] finds context.DeadlineExceeded and context.Canceled in the errors that mean
// the same, whoever noticed first, the client or a server.
type Error struct {
	// Code is the gRPC status code.
	Code codes.Code
	// Reason is the word for what went wrong, UPPER_SNAKE_CASE; the project's docs/errors.md lists them. Empty when the
	// error is not of a Consilium server: no connection, a proxy, the client's own deadline.
	Reason string
	// Message is for people. It never repeats the query, nor the value of any metadata.
	Message string
	// RequestID names the request in the router's logs. Empty when the router did not see it.
	RequestID string
	// Violations are the fields that were wrong, all of them.
	Violations []Violation
	// Metadata are the facts of the case, for example the expert.
	Metadata map[string]string

	retryAfter *time.Duration
	forbidden  bool
	cause      error
}

// A Violation is a field that was wrong.
type Violation struct {
	// Field is the path of the field in the request, for example query.attributes.audience.
	Field string
	// Problem says what was expected.
	Problem string
}

// RetryAfter is when the server thinks another try worth while, which can be at once; false when it does not.
func (e *Error) RetryAfter() (time.Duration, bool) {
	if e.retryAfter == nil || e.forbidden {
		return 0, false
	}
	return *e.retryAfter, true
}

// Retryable reports whether the same call may succeed later: the server named a time for it, or no Consilium server
// answered at all and the call ended as UNAVAILABLE. A server that forbids more tries, with a grpc-retry-pushback-ms that
// is negative or no number, is obeyed. gRPC has made its attempts by then, so wait longer than it did.
func (e *Error) Retryable() bool {
	return !e.forbidden && (e.retryAfter != nil || e.Code == codes.Unavailable && e.Reason == "")
}

// Error is one line: code, reason and message. The routers' messages name the fields that were wrong, so it does not.
func (e *Error) Error() string {
	var line strings.Builder
	line.WriteString("consilium: " + e.Code.String())
	if e.Reason != "" {
		line.WriteString(" " + e.Reason)
	}
	if e.Message != "" {
		line.WriteString(": " + e.Message)
	}
	if e.RequestID != "" {
		line.WriteString(" (request " + e.RequestID + ")")
	}
	return line.String()
}

// Unwrap gives gRPC's own error.
func (e *Error) Unwrap() error {
	return e.cause
}

// GRPCStatus is what [status.FromError] looks for.
func (e *Error) GRPCStatus() *status.Status {
	return status.Convert(e.cause)
}

// Is makes errors.Is find the context's errors; gRPC has codes instead of them.
func (e *Error) Is(target error) bool {
	switch target {
	case context.DeadlineExceeded:
		return e.Code == codes.DeadlineExceeded
	case context.Canceled:
		return e.Code == codes.Canceled
	default:
		return false
	}
}

// newError reads what a call ended with. The request's id is in the trailer, or in the header when an answer had begun.
func newError(cause error, header, trailer metadata.MD) *Error {
	verdict := status.Convert(cause)
	e := &Error{
		Code:      verdict.Code(),
		Message:   verdict.Message(),
		RequestID: firstOf(requestIDMetadata, trailer, header),
		forbidden: forbids(trailer.Get(pushbackMetadata)) || forbids(header.Get(pushbackMetadata)),
		cause:     cause,
	}
	for _, detail := range verdict.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == errorDomain {
				e.Reason, e.Metadata = detail.GetReason(), detail.GetMetadata()
			}
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				e.Violations = append(e.Violations, Violation{violation.GetField(), violation.GetDescription()})
			}
		case *errdetails.RetryInfo:
			after := detail.GetRetryDelay().AsDuration()
			e.retryAfter = &after
		}
	}
	return e
}

// forbids reads a pushback as gRPC does: more than one, or one that is negative or no number, means no.
func forbids(pushback []string) bool {
	if len(pushback) == 0 {
		return false
	}
	pause, err := strconv.Atoi(pushback[0])
	return len(pushback) > 1 || err != nil || pause < 0
}

func firstOf(key string, sources ...metadata.MD) string {
	for _, source := range sources {
		if values := source.Get(key); len(values) > 0 {
			return values[0]
		}
	}
	return ""
}
