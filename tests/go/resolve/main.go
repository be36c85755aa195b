// Command resolve is somebody else's program: a Go client that finds a Consilium expert the way that etcd's own
// documentation shows, by resolving etcd:///consilium/<mesh>/experts/<expert>, and calls it with grpc-go.
//
// It links nothing of Consilium. The messages come from a descriptor set that is read at start, so that the test which
// runs this program shows what the registry's keys, the wire and the .proto files promise to anybody, and nothing more.
//
// For every call one line of JSON goes to standard output. The exit code is 0 when every call was answered, 1 when a
// call was not, and 2 when the program could not start.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

const (
	service     = "consilium.v1.ExpertService"
	method      = "Infer"
	callTimeout = 5 * time.Second
)

// An outcome is the line that is printed for a call.
type outcome struct {
	Code     string `json:"code"`
	Message  string `json:"message,omitempty"`
	Instance string `json:"instance"`
	Version  string `json:"version"`
	Expert   string `json:"expert"`
}

func main() {
	etcd := flag.String("etcd", "", "`URLs` of the etcd members, separated by commas")
	target := flag.String("target", "", "what to resolve: etcd:///consilium/<mesh>/experts/<expert>")
	descriptors := flag.String("descriptors", "", "a `file` with a FileDescriptorSet, imports included")
	text := flag.String("text", "", "the query's text")
	authority := flag.String("authority", "consilium", "what to send as :authority; empty leaves it to grpc-go, see dial")
	calls := flag.Int("calls", 1, "how many calls to make, one after the other")
	flag.Parse()

	// The resolver makes its first read of etcd inside the first call and without a deadline of its own: when etcd does
	// not answer, the call's deadline would not end it.
	limit := time.Duration(*calls)*callTimeout + callTimeout
	watchdog := time.AfterFunc(limit, func() { fail(fmt.Errorf("not done after %v: does etcd answer?", limit)) })
	defer watchdog.Stop()

	infer, err := findMethod(*descriptors)
	if err != nil {
		fail(err)
	}
	connection, err := dial(strings.Split(*etcd, ","), *target, *authority)
	if err != nil {
		fail(err)
	}
	request := newRequest(infer.Input(), path.Base(*target), *text)

	answered := true
	lines := json.NewEncoder(os.Stdout)
	for range *calls {
		reply := dynamicpb.NewMessage(infer.Output())
		err := call(connection, request, reply)
		answered = answered && err == nil
		if err := lines.Encode(newOutcome(reply, err)); err != nil {
			fail(err)
		}
	}
	if !answered {
		os.Exit(1)
	}
}

// dial makes a connection whose addresses come from etcd; a new call goes to the next of them.
//
// Without an authority grpc-go sends the target's path, escaped: consilium%2Fclinic%2Fexperts%2F… RFC 3986 allows that
// in a host name, but Rust's http crate (1.5) takes no % there, so a Rust server resets the stream with PROTOCOL_ERROR
// before any of its own code has seen the call. Every client whose target has a slash in it needs this one option, or
// TLS credentials with a server name, which becomes the authority.
func dial(etcd []string, target, authority string) (*grpc.ClientConn, error) {
	client, err := clientv3.New(clientv3.Config{Endpoints: etcd, DialTimeout: callTimeout})
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	builder, err := resolver.NewBuilder(client)
	if err != nil {
		return nil, fmt.Errorf("resolver: %w", err)
	}
	return grpc.NewClient(target,
		grpc.WithResolvers(builder),
		grpc.WithAuthority(authority),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
}

func call(connection *grpc.ClientConn, request, reply proto.Message) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	return connection.Invoke(ctx, "/"+service+"/"+method, request, reply, grpc.WaitForReady(true))
}

func newRequest(input protoreflect.MessageDescriptor, expert, text string) *dynamicpb.Message {
	request := dynamicpb.NewMessage(input)
	request.Set(input.Fields().ByName("expert"), protoreflect.ValueOfString(expert))
	field := input.Fields().ByName("query")
	query := dynamicpb.NewMessage(field.Message())
	query.Set(field.Message().Fields().ByName("text"), protoreflect.ValueOfString(text))
	request.Set(field, protoreflect.ValueOfMessage(query))
	return request
}

func newOutcome(reply *dynamicpb.Message, err error) outcome {
	str := func(field protoreflect.Name) string {
		return reply.Get(reply.Descriptor().Fields().ByName(field)).String()
	}
	verdict := status.Convert(err)
	return outcome{
		Code:     verdict.Code().String(),
		Message:  verdict.Message(),
		Instance: str("instance"),
		Version:  str("version"),
		Expert:   str("expert"),
	}
}

// findMethod reads the descriptors of the call's messages from a file that protoc wrote.
func findMethod(file string) (protoreflect.MethodDescriptor, error) {
	bytes, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(bytes, &set); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	found, err := files.FindDescriptorByName(service + "." + method)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	infer, ok := found.(protoreflect.MethodDescriptor)
	if !ok {
		return nil, errors.New(service + "." + method + " is not a method")
	}
	return infer, nil
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "resolve:", err)
	os.Exit(2)
}
