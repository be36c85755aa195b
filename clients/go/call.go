package consilium

import (
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"consilium.dev/go/consiliumv1"
)

// DefaultTimeout is how long a call may take when neither it nor its client says otherwise.
const DefaultTimeout = 5 * time.Second

// A CallOption changes one call, or with [WithDefaults] every call of a client. What none of them sets is left to the
// mesh. Of two that say the same thing the later one counts, and a call's own come after its client's.
type CallOption func(*call)

// Timeout is how long the call may take, retries included; for a stream, until its last event. It must be positive. The
// context's deadline, if it has one that is sooner, counts all the same.
func Timeout(timeout time.Duration) CallOption {
	return func(c *call) { c.timeout = timeout }
}

// Attribute says what is known of the query along one of the mesh's declared dimensions: one value or several. A
// dimension that the mesh does not declare is an error, and so is one that the call's query has a value for already.
func Attribute(dimension string, values ...string) CallOption {
	return func(c *call) {
		if _, twice := c.given.GetAttributes()[dimension]; twice {
			c.saidTwice("query.attributes." + dimension)
		}
		if c.query.Attributes == nil {
			c.query.Attributes = make(map[string]*consiliumv1.Values)
		}
		c.query.Attributes[dimension] = &consiliumv1.Values{Values: values}
	}
}

// Label is a free-form fact about the query, which the mesh's rules can read. One that the call's query has already is an
// error.
func Label(name, value string) CallOption {
	return func(c *call) {
		if _, twice := c.given.GetLabels()[name]; twice {
			c.saidTwice("query.labels." + name)
		}
		if c.query.Labels == nil {
			c.query.Labels = make(map[string]string)
		}
		c.query.Labels[name] = value
	}
}

// TopK is the most experts to ask, 1 to 16.
func TopK(experts uint32) CallOption {
	return func(c *call) { c.dispatch().TopK = &experts }
}

// MinConfidence is the least probability at which an expert is asked, 0 to 1.
func MinConfidence(probability float64) CallOption {
	return func(c *call) { c.dispatch().MinConfidence = &probability }
}

// Experts allows only these, by name.
func Experts(names ...string) CallOption {
	return func(c *call) { c.dispatch().Experts = names }
}

// Version asks for this version of an expert.
func Version(expert, version string) CallOption {
	return func(c *call) {
		options := c.dispatch()
		if options.Versions == nil {
			options.Versions = make(map[string]string)
		}
		options.Versions[expert] = version
	}
}

// Combine says how the answers of several experts become one.
func Combine(how consiliumv1.Combine) CallOption {
	return func(c *call) { c.dispatch().Combine = &how }
}

// Priority says how much the call matters: under pressure the lower ones give way first.
func Priority(priority consiliumv1.Priority) CallOption {
	return func(c *call) { c.caller().Priority = priority }
}

// RequestID names the request in replies, errors and logs. Without one the router makes one.
func RequestID(id string) CallOption {
	return func(c *call) { c.caller().RequestId = id }
}

// Tenant says for which tenant of the mesh the call is made.
func Tenant(tenant string) CallOption {
	return func(c *call) { c.caller().Tenant = tenant }
}

// Tier is the caller's tier of service.
func Tier(tier string) CallOption {
	return func(c *call) { c.caller().Tier = tier }
}

// Subject says on whose behalf the call is made: the identity of a user or of a system.
func Subject(subject string) CallOption {
	return func(c *call) { c.caller().Subject = subject }
}

// Purpose is the purpose of use, for example treatment or research.
func Purpose(purpose string) CallOption {
	return func(c *call) { c.caller().Purpose = purpose }
}

// A call is what the options say about one call. context and options stay nil until an option needs them.
type call struct {
	timeout time.Duration
	query   *consiliumv1.Query
	context *consiliumv1.CallContext
	options *consiliumv1.DispatchOptions

	// The caller's query while the call's own options are read, which may not say again what it says.
	given *consiliumv1.Query
	twice []Violation
}

// newCall puts together what the client's defaults, the query and the call's own options say. The defaults give way to
// both. The query is copied, because options write into it.
func newCall(defaults []CallOption, query *consiliumv1.Query, options []CallOption) (*call, *Error) {
	call := &call{timeout: DefaultTimeout, query: new(consiliumv1.Query)}
	for _, option := range defaults {
		option(call)
	}
	if query != nil {
		proto.Merge(call.query, query)
	}
	call.given = query
	for _, option := range options {
		option(call)
	}
	if call.timeout <= 0 {
		return nil, wrongCall(fmt.Sprintf("the timeout must be positive, not %v", call.timeout), nil)
	}
	if len(call.twice) > 0 {
		return nil, wrongCall("the query and an option both say "+call.twice[0].Field, call.twice)
	}
	return call, nil
}

// wrongCall is the error of a call that is not made.
func wrongCall(message string, violations []Violation) *Error {
	e := newError(status.Error(codes.InvalidArgument, message), nil, nil)
	e.Violations = violations
	return e
}

func (c *call) saidTwice(field string) {
	c.twice = append(c.twice, Violation{field, "expected in the query or as an option, not both"})
}

func (c *call) caller() *consiliumv1.CallContext {
	if c.context == nil {
		c.context = new(consiliumv1.CallContext)
	}
	return c.context
}

func (c *call) dispatch() *consiliumv1.DispatchOptions {
	if c.options == nil {
		c.options = new(consiliumv1.DispatchOptions)
	}
	return c.options
}
