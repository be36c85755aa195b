// Package consilium asks a Consilium mesh: one front door, many small experts, and only those that a query needs are run.
//
// A [Client] is one connection to a router or to several, safe for concurrent use, made once and kept:
//
//	client, err := consilium.New("127.0.0.1:7600")
//	if err != nil {
//		return err
//	}
//	defer client.Close()
//
//	reply, err := client.Ask(ctx, "Can my patient take ibuprofen with warfarin?",
//		consilium.Attribute("audience", "clinician"))
//
// Replies are the messages of the contract itself, from package [consilium.dev/go/consiliumv1].
//
// # Deadlines
//
// Every call has one. Without a word it is [DefaultTimeout] from now; [Timeout] changes it for a call, or as one of
// [WithDefaults] for a client. A context that ends sooner ends the call sooner. There is no way to wait for ever.
//
// # Refusals and errors
//
// When nobody in the mesh knows the subject, the reply says so: its decision's outcome is OUTCOME_REFUSED and it has no
// answer. That is a reply, not an error. Every error of a call is an [*Error], which has the server's reason, the fields
// that were wrong and when to try again.
//
// # Plain text
//
// Without [WithTLS] the connection is not encrypted, and [New] allows that only to this machine. For any other target it
// has to be said: [WithPlaintext].
//
// # Metadata
//
// What the context has as outgoing metadata (metadata.AppendToOutgoingContext of grpc-go) travels with the call.
//
// # Retries
//
// gRPC itself repeats what ended as UNAVAILABLE, up to three attempts a call, with a growing pause or the one that the
// server asks for, and spread over the addresses of the target. The service config says so; it is the one that the
// contract publishes. An error that arrives here has been through that already.
//
// # Traces
//
// The span of the call's context travels along as W3C traceparent and tracestate; see [WithPropagator].
package consilium
