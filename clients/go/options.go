package consilium

import (
	"crypto/tls"
	_ "embed"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// The contract's own, byte for byte.
//
//go:embed service_config.json
var serviceConfig string

const (
	userAgent = "consilium-go/0.1.0"

	// A router's reply may carry the answers of four experts of 8 MiB each; gRPC's own limit is 4 MiB.
	maxReplyBytes = 32 << 20

	// The longest query that a router takes is 8 MiB. gRPC's own limit of what it keeps for another attempt is 256 KiB, and
	// a call that is longer is not tried again.
	maxRetryBytes = 9 << 20

	// Of headers or trailers. An error that names many fields is longer than the 8 KiB that other languages allow.
	maxMetadataBytes = 64 << 10

	// On a path that swallows packets only a ping that nobody answers shows it; without one a connection that is dead
	// takes call after call. Pings are sent while calls run, so an idle client is silent.
	pingEvery  = 20 * time.Second
	pingWithin = 5 * time.Second
)

// An Option changes what [New] makes.
type Option func(*settings)

// WithTLS encrypts the connection. A nil config trusts the certificates that the system trusts; for another authority set
// RootCAs, and for a client certificate set Certificates.
func WithTLS(config *tls.Config) Option {
	return WithCredentials(credentials.NewTLS(config))
}

// WithCredentials is [WithTLS] for what else gRPC can: ALTS, or certificates that are renewed while the program runs.
func WithCredentials(transport credentials.TransportCredentials) Option {
	return func(s *settings) { s.credentials = transport }
}

// WithPlaintext says that queries and answers may leave this machine unencrypted, because something else protects the
// network between here and the routers.
func WithPlaintext() Option {
	return func(s *settings) { s.plaintext = true }
}

// WithDefaults gives options to every call that does not say otherwise itself:
//
//	consilium.New(target, consilium.WithDefaults(consilium.Timeout(2*time.Second), consilium.Tenant("ward-7")))
//
// An attribute or a label that the call or its query has as well counts before the default.
func WithDefaults(options ...CallOption) Option {
	return func(s *settings) { s.defaults = append(s.defaults, options...) }
}

// WithPropagator says how the trace context of a call's context is written into its metadata. Without it that is
// OpenTelemetry's global propagator, otel.GetTextMapPropagator, and W3C trace context, without baggage, in a program that
// has not set one or has set one without fields. A propagator without fields given here sends nothing.
func WithPropagator(propagator propagation.TextMapPropagator) Option {
	return func(s *settings) { s.propagator = propagator }
}

// WithDialOptions is for what gRPC can and this package has no word for: a resolver, an interceptor, a proxy. They come
// after the client's own options and replace those that they contradict. Credentials belong into [WithCredentials]: [New]
// cannot see those that are given here.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(s *settings) { s.dial = append(s.dial, options...) }
}

type settings struct {
	credentials credentials.TransportCredentials
	plaintext   bool
	defaults    []CallOption
	propagator  propagation.TextMapPropagator
	dial        []grpc.DialOption
}

func newSettings(options []Option) *settings {
	settings := new(settings)
	for _, option := range options {
		option(settings)
	}
	return settings
}

func (s *settings) dialOptions() []grpc.DialOption {
	transport := s.credentials
	if transport == nil {
		transport = insecure.NewCredentials() // New lets it go no further than guard does
	}
	return append([]grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDisableServiceConfig(), // whoever answers for the name server would decide about retries otherwise
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReplyBytes), grpc.MaxRetryRPCBufferSize(maxRetryBytes)),
		grpc.WithMaxHeaderListSize(maxMetadataBytes),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingEvery, Timeout: pingWithin}),
		grpc.WithUserAgent(userAgent),
	}, s.dial...)
}
