package dev.consilium.client;

import dev.consilium.v1.DispatchRequest;
import dev.consilium.v1.DispatchResponse;
import dev.consilium.v1.ExplainRequest;
import dev.consilium.v1.ExplainResponse;
import dev.consilium.v1.Query;
import dev.consilium.v1.RouterServiceGrpc;
import dev.consilium.v1.SendFeedbackRequest;
import dev.consilium.v1.SendFeedbackResponse;
import dev.consilium.v1.StreamDispatchRequest;
import io.grpc.ChannelCredentials;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.StatusRuntimeException;
import io.opentelemetry.api.GlobalOpenTelemetry;
import io.opentelemetry.api.trace.propagation.W3CTraceContextPropagator;
import io.opentelemetry.context.propagation.TextMapPropagator;
import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import java.util.function.Supplier;

/**
 * A client of one mesh. It is made once, used by any number of threads, and closed at the end.
 *
 * <pre>{@code
 * try (var mesh = ConsiliumClient.connect("127.0.0.1:7600")) {
 *   var reply = mesh.ask("Can I take ibuprofen together with warfarin?");
 *   System.out.println(reply.getDecision().getOutcome() + " " + reply.getAnswer());
 * }
 * }</pre>
 *
 * <p>A refusal, where nobody in the mesh knows the subject, is a reply like any other: {@code
 * decision.outcome} says so, and there is no answer. Every call has a deadline. What fails throws {@link ConsiliumException};
 * a call that finds no server, or one that is going away, is tried up to three times first.
 */
public final class ConsiliumClient implements AutoCloseable {
  /** How long a call may take where neither the client nor the call says otherwise. */
  public static final Duration DEFAULT_DEADLINE = Duration.ofSeconds(5);

  private final Closing closing = new Closing();
  private final ManagedChannel channel;
  private final Duration deadline;
  private final RouterServiceGrpc.RouterServiceBlockingStub blocking;
  private final RouterServiceGrpc.RouterServiceFutureStub future;

  private ConsiliumClient(Builder builder) {
    var metadata = new CallMetadata(builder.propagator);
    channel = MeshChannel.open(builder.target, builder.credentials(), builder.channel, closing, metadata);
    deadline = builder.deadline;
    blocking = RouterServiceGrpc.newBlockingStub(channel);
    future = RouterServiceGrpc.newFutureStub(channel);
  }

  /**
   * A client of a mesh on this machine, in plaintext, with every default.
   *
   * @param target where the router is, for example {@code 127.0.0.1:7600}
   * @throws IllegalArgumentException when the target is not certainly this machine: then {@link #builder(String)} is the way
   */
  public static ConsiliumClient connect(String target) {
    return builder(target).build();
  }

  /**
   * The way to other machines, another deadline, and everything else.
   *
   * @param target where the router is: {@code host:port}, or any target that gRPC knows, for example {@code
   *     dns:///consilium-router-headless:7600}
   */
  public static Builder builder(String target) {
    return new Builder(target);
  }

  /** {@link #ask(Query, AskOptions)} for a text and nothing else. */
  public DispatchResponse ask(String text) {
    return ask(text, AskOptions.defaults());
  }

  /** {@link #ask(Query, AskOptions)} for a text. */
  public DispatchResponse ask(String text, AskOptions options) {
    return ask(query(text), options);
  }

  /**
   * Routes the query, calls the experts that it needs, and gives the combined answer with the reasons.
   *
   * @throws ConsiliumException when there is no reply
   * @throws IllegalArgumentException when the query and the options say the same attribute or label
   */
  public DispatchResponse ask(Query query, AskOptions options) {
    DispatchRequest request = options.request(query);
    return reply(() -> options.terms().on(blocking, deadline).dispatch(request));
  }

  /** {@link #explain(Query, AskOptions)} for a text and nothing else. */
  public ExplainResponse explain(String text) {
    return explain(text, AskOptions.defaults());
  }

  /** {@link #explain(Query, AskOptions)} for a text. */
  public ExplainResponse explain(String text, AskOptions options) {
    return explain(query(text), options);
  }

  /**
   * What {@link #ask(Query, AskOptions)} would do, and why, without calling an expert.
   *
   * @throws ConsiliumException when there is no reply
   */
  public ExplainResponse explain(Query query, AskOptions options) {
    ExplainRequest request = explainRequest(options.request(query));
    return reply(() -> options.terms().on(blocking, deadline).explain(request));
  }

  /** {@link #stream(Query, AskOptions)} for a text and nothing else. */
  public AnswerStream stream(String text) {
    return stream(text, AskOptions.defaults());
  }

  /** {@link #stream(Query, AskOptions)} for a text. */
  public AnswerStream stream(String text, AskOptions options) {
    return stream(query(text), options);
  }

  /**
   * Asks, and gives what happens as it happens: the decision, pieces of text, each expert's reply, the combined answer. Close
   * the stream; that cancels what still runs.
   */
  public AnswerStream stream(Query query, AskOptions options) {
    StreamDispatchRequest request = streamRequest(options.request(query));
    return AnswerStream.open(() -> options.terms().on(blocking, deadline).streamDispatch(request));
  }

  /** {@link #feedback(String, Metrics, FeedbackOptions)} about a reply. */
  public SendFeedbackResponse feedback(DispatchResponse reply, Metrics metrics) {
    return feedback(reply.getFeedbackToken(), metrics);
  }

  /** {@link #feedback(String, Metrics, FeedbackOptions)} with no options. */
  public SendFeedbackResponse feedback(String token, Metrics metrics) {
    return feedback(token, metrics, FeedbackOptions.defaults());
  }

  /**
   * Tells the mesh how good an answer was.
   *
   * @param token the {@code feedback_token} of the reply, or of the last event of a stream
   * @throws ConsiliumException when the mesh did not take the feedback: then none of its metrics counts
   */
  public SendFeedbackResponse feedback(String token, Metrics metrics, FeedbackOptions options) {
    SendFeedbackRequest request = metrics.request(token);
    return reply(() -> options.terms().on(blocking, deadline).sendFeedback(request));
  }

  /** {@link #askAsync(Query, AskOptions)} for a text. */
  public CompletableFuture<DispatchResponse> askAsync(String text, AskOptions options) {
    return askAsync(query(text), options);
  }

  /**
   * {@link #ask(Query, AskOptions)} without waiting. The future fails with {@link ConsiliumException}; cancelling it cancels
   * the call.
   */
  public CompletableFuture<DispatchResponse> askAsync(Query query, AskOptions options) {
    return Completion.of(options.terms().on(future, deadline).dispatch(options.request(query)));
  }

  /** {@link #explainAsync(Query, AskOptions)} for a text. */
  public CompletableFuture<ExplainResponse> explainAsync(String text, AskOptions options) {
    return explainAsync(query(text), options);
  }

  /**
   * {@link #explain(Query, AskOptions)} without waiting. The future fails with {@link ConsiliumException}; cancelling it
   * cancels the call.
   */
  public CompletableFuture<ExplainResponse> explainAsync(Query query, AskOptions options) {
    return Completion.of(options.terms().on(future, deadline).explain(explainRequest(options.request(query))));
  }

  /** {@link #feedbackAsync(String, Metrics, FeedbackOptions)} with no options. */
  public CompletableFuture<SendFeedbackResponse> feedbackAsync(String token, Metrics metrics) {
    return feedbackAsync(token, metrics, FeedbackOptions.defaults());
  }

  /**
   * {@link #feedback(String, Metrics, FeedbackOptions)} without waiting. The future fails with {@link ConsiliumException};
   * cancelling it cancels the call.
   */
  public CompletableFuture<SendFeedbackResponse> feedbackAsync(String token, Metrics metrics, FeedbackOptions options) {
    return Completion.of(options.terms().on(future, deadline).sendFeedback(metrics.request(token)));
  }

  /** Closes the connections, within 5 s. What still runs ends as {@code CANCELLED}, and so does every later call. */
  @Override
  public void close() {
    closing.begin();
    channel.shutdownNow();
    try {
      channel.awaitTermination(5, TimeUnit.SECONDS);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  private static <T> T reply(Supplier<T> call) {
    try {
      return call.get();
    } catch (StatusRuntimeException e) {
      throw new ConsiliumException(e);
    }
  }

  private static Query query(String text) {
    return Query.newBuilder().setText(text).build();
  }

  private static ExplainRequest explainRequest(DispatchRequest request) {
    ExplainRequest.Builder explain = ExplainRequest.newBuilder().setQuery(request.getQuery());
    return explain.setContext(request.getContext()).setOptions(request.getOptions()).build();
  }

  private static StreamDispatchRequest streamRequest(DispatchRequest request) {
    StreamDispatchRequest.Builder stream = StreamDispatchRequest.newBuilder().setQuery(request.getQuery());
    return stream.setContext(request.getContext()).setOptions(request.getOptions()).build();
  }

  /** What a client can be made with. */
  public static final class Builder {
    private final String target;
    private ChannelCredentials credentials;
    private boolean plaintext;
    private Duration deadline = DEFAULT_DEADLINE;
    private Supplier<TextMapPropagator> propagator = Builder::propagatorOfTheProgram;
    private Consumer<? super ManagedChannelBuilder<?>> channel = settings -> {};

    private Builder(String target) {
      this.target = Objects.requireNonNull(target, "target");
    }

    /**
     * How the connection is protected. {@code TlsChannelCredentials.create()} trusts what the Java runtime trusts, {@code
     * TlsChannelCredentials.newBuilder()} takes a CA and a client certificate. Without credentials only this machine can be
     * the target.
     */
    public Builder credentials(ChannelCredentials credentials) {
      this.credentials = Objects.requireNonNull(credentials, "credentials");
      return this;
    }

    /** Queries and answers may be read on the way to another machine: something else protects them, or nothing has to. */
    public Builder plaintext() {
      plaintext = true;
      return this;
    }

    /**
     * How long a call may take that does not say it itself: more than nothing. Without a word it is {@link
     * ConsiliumClient#DEFAULT_DEADLINE}.
     */
    public Builder deadline(Duration deadline) {
      this.deadline = Terms.checked(deadline);
      return this;
    }

    /**
     * What of the current OpenTelemetry context travels along. Without a word it is what the propagators of {@code
     * GlobalOpenTelemetry} say where the program has set one, and {@code traceparent} and {@code tracestate} where it has not.
     */
    public Builder propagator(TextMapPropagator propagator) {
      Objects.requireNonNull(propagator, "propagator");
      this.propagator = () -> propagator;
      return this;
    }

    /**
     * The way to everything else that gRPC can be told: interceptors, sizes, executors. Runs last, when the client is made, and
     * what it sets counts. Security is not set here.
     *
     * <pre>{@code
     * builder.channel(channel -> channel.maxInboundMessageSize(64 << 20).intercept(audit))
     * }</pre>
     */
    public Builder channel(Consumer<? super ManagedChannelBuilder<?>> channel) {
      this.channel = Objects.requireNonNull(channel, "channel");
      return this;
    }

    /**
     * Makes the client. It connects with the first call.
     *
     * @throws IllegalArgumentException when the target is not certainly this machine, and neither {@link
     *     #credentials(ChannelCredentials)} nor {@link #plaintext()} was said; or when both were
     */
    public ConsiliumClient build() {
      return new ConsiliumClient(this);
    }

    private ChannelCredentials credentials() {
      if (credentials != null && plaintext) {
        throw new IllegalArgumentException("credentials(…) and plaintext() exclude each other");
      }
      if (credentials == null && !plaintext && !Loopback.is(target)) {
        throw new IllegalArgumentException(
            "a target that is not certainly this machine takes credentials(…), or plaintext() where everybody may read along");
      }
      return credentials == null ? InsecureChannelCredentials.create() : credentials;
    }

    /** Asked with every call, because a program may set its propagators later. {@code get()} alone would set them for it. */
    private static TextMapPropagator propagatorOfTheProgram() {
      return GlobalOpenTelemetry.isSet()
          ? GlobalOpenTelemetry.get().getPropagators().getTextMapPropagator()
          : W3CTraceContextPropagator.getInstance();
    }
  }
}
