package consilium_test

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	consilium "consilium.dev/go"
)

func TestPlaintextHasToBeSaidWhereItLeavesTheMachine(t *testing.T) {
	for target, here := range map[string]bool{
		"localhost:7600":                true,
		"LocalHost":                     true,
		"127.0.0.1:7600":                true,
		"127.8.9.10:7600":               true,
		"[::1]:7600":                    true,
		"::1":                           true,
		"dns:///localhost:7600":         true,
		"dns:localhost:7600":            true,
		"dns://192.0.2.1/[::1]:7600":    true,
		"passthrough:///127.0.0.1:7600": true,
		"unix:mesh.sock":                true,
		"unix:///run/mesh.sock":         true,
		"unix-abstract:mesh":            true,

		"router:7600":                      false,
		"192.0.2.1:7600":                   false,
		"[2001:db8::1]:7600":               false,
		"0.0.0.0:7600":                     false,
		":7600":                            false,
		"localhost.example.org:7600":       false,
		"127.0.0.1.example.org:7600":       false,
		"dns:///router:7600":               false,
		"dns://127.0.0.1:5353/router:7600": false,
		"passthrough:///router:7600":       false,
		"router:7600/localhost:7600":       false,
		"mesh:///localhost:7600":           false,
		"unix.example.org:7600":            false,
	} {
		names := resolving("", "192.0.2.1:7600")
		client, err := consilium.New(target, names)
		if here != (err == nil) {
			t.Errorf("%s: %v", target, err)
		}
		if err == nil {
			_ = client.Close()
			continue
		}
		for _, way := range []string{target, "WithTLS", "WithPlaintext"} {
			if !strings.Contains(err.Error(), way) {
				t.Errorf("%s: the error does not name %s: %v", target, way, err)
			}
		}
		for name, said := range map[string]consilium.Option{
			"plaintext": consilium.WithPlaintext(), "TLS": consilium.WithTLS(nil),
		} {
			client, err := consilium.New(target, names, said)
			if err != nil {
				t.Errorf("%s with %s: %v", target, name, err)
				continue
			}
			_ = client.Close()
		}
	}
}

func TestCredentialsAndPlaintextContradictEachOther(t *testing.T) {
	if _, err := consilium.New("127.0.0.1:1", consilium.WithTLS(nil), consilium.WithPlaintext()); err == nil {
		t.Error("a client with both")
	}
}

func TestAUnixSocketNeedsNoWord(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "mesh.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, &router{}, listener)
	if _, err := dial(t, "unix://"+socket).Ask(patient(t), "text"); err != nil {
		t.Error(err)
	}
}
