package consilium

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"google.golang.org/grpc/resolver"
)

// guard refuses a connection that would leave this machine in plain text without a word about it. The target is gRPC's
// canonical form, which always has a scheme.
func (s *settings) guard(target string) error {
	switch {
	case s.credentials != nil && s.plaintext:
		return errors.New("there are credentials, so the connection cannot be in plain text as well")
	case s.credentials != nil || s.plaintext || staysHere(target):
		return nil
	default:
		return fmt.Errorf("the connection to %s would be in plain text: give credentials (WithTLS), "+
			"or say that this is meant (WithPlaintext)", target)
	}
}

// staysHere reports whether the target can only be this machine. A name of any other scheme may resolve to anything.
func staysHere(target string) bool {
	parsed, err := url.Parse(target)
	if err != nil {
		return false
	}
	switch parsed.Scheme {
	case "unix", "unix-abstract":
		return true
	case "dns", "passthrough":
		return loopback(resolver.Target{URL: *parsed}.Endpoint())
	default:
		return false
	}
}

// loopback takes a host with or without a port, and an IPv6 address with or without its brackets.
func loopback(endpoint string) bool {
	host, _, err := net.SplitHostPort(endpoint)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(endpoint, "["), "]")
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}
