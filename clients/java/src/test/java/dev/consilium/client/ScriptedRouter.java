package dev.consilium.client;

import com.google.protobuf.Message;
import dev.consilium.v1.Decision;
import dev.consilium.v1.DispatchRequest;
import dev.consilium.v1.DispatchResponse;
import dev.consilium.v1.Done;
import dev.consilium.v1.ExplainRequest;
import dev.consilium.v1.ExplainResponse;
import dev.consilium.v1.RouterServiceGrpc;
import dev.consilium.v1.SendFeedbackRequest;
import dev.consilium.v1.SendFeedbackResponse;
import dev.consilium.v1.StreamDispatchRequest;
import dev.consilium.v1.StreamDispatchResponse;
import dev.consilium.v1.TextDelta;
import io.grpc.ForwardingServerCall.SimpleForwardingServerCall;
import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.ServerInterceptors;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;

/** A router on a real socket that does what a test says, and remembers what it was sent. */
final class ScriptedRouter extends RouterServiceGrpc.RouterServiceImplBase implements AutoCloseable {
  /** What the headers of every reply call the request. */
  static final String REQUEST_ID = "request-of-the-router";

  /** One entry for each attempt. */
  final List<Metadata> headers = new CopyOnWriteArrayList<>();

  final List<Message> requests = new CopyOnWriteArrayList<>();

  /** Falls to zero when a call is held. */
  final CountDownLatch held = new CountDownLatch(1);

  /** Falls to zero when the caller of a held call is gone. */
  final CountDownLatch gone = new CountDownLatch(1);

  private final Queue<StatusRuntimeException> refusals = new ArrayDeque<>();
  private final Queue<StatusRuntimeException> failures = new ArrayDeque<>();
  private final Server server;
  private DispatchResponse reply = DispatchResponse.newBuilder().setRequestId(REQUEST_ID).build();
  private boolean holding;

  ScriptedRouter() {
    server =
        Grpc.newServerBuilderForPort(0, InsecureServerCredentials.create())
            .addService(ServerInterceptors.intercept(this, new Recorder()))
            .maxInboundMessageSize(16 << 20)
            .build();
    try {
      server.start();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  String target() {
    return "127.0.0.1:" + server.getPort();
  }

  /** A client whose calls do not end because their time is over, however busy the machine. */
  ConsiliumClient client() {
    return builder().build();
  }

  ConsiliumClient.Builder builder() {
    return ConsiliumClient.builder(target()).deadline(Duration.ofHours(1));
  }

  /** The next so many streams fail like this before they begin. */
  void refuse(int streams, StatusRuntimeException error) {
    for (int stream = 0; stream < streams; stream++) {
      refusals.add(error);
    }
  }

  /** The next so many attempts fail like this, and no more; a stream first sends the decision. */
  void fail(int attempts, StatusRuntimeException error) {
    failures.clear();
    for (int attempt = 0; attempt < attempts; attempt++) {
      failures.add(error);
    }
  }

  /** Calls begin and are not answered; a stream first sends the decision. */
  void hold() {
    holding = true;
  }

  void reply(DispatchResponse reply) {
    this.reply = reply;
  }

  String header(int attempt, String name) {
    return headers.get(attempt).get(key(name));
  }

  /** Every value of it. */
  List<String> headers(int attempt, String name) {
    var values = new ArrayList<String>();
    Iterable<String> sent = headers.get(attempt).getAll(key(name));
    if (sent != null) {
      sent.forEach(values::add);
    }
    return values;
  }

  private static Metadata.Key<String> key(String name) {
    return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
  }

  @Override
  public void dispatch(DispatchRequest request, StreamObserver<DispatchResponse> to) {
    unary(request, reply, to);
  }

  @Override
  public void explain(ExplainRequest request, StreamObserver<ExplainResponse> to) {
    unary(request, ExplainResponse.newBuilder().setRequestId(REQUEST_ID).build(), to);
  }

  @Override
  public void sendFeedback(SendFeedbackRequest request, StreamObserver<SendFeedbackResponse> to) {
    unary(request, SendFeedbackResponse.getDefaultInstance(), to);
  }

  @Override
  public void streamDispatch(StreamDispatchRequest request, StreamObserver<StreamDispatchResponse> to) {
    requests.add(request);
    if (!refusals.isEmpty()) {
      to.onError(refusals.remove());
      return;
    }
    var decision = Decision.newBuilder().setOutcome(Decision.Outcome.OUTCOME_DISPATCHED);
    to.onNext(StreamDispatchResponse.newBuilder().setDecision(decision).build());
    if (holding) {
      untilGone(to);
    } else if (failures.isEmpty()) {
      to.onNext(StreamDispatchResponse.newBuilder().setDelta(TextDelta.newBuilder().setText("piece")).build());
      to.onNext(StreamDispatchResponse.newBuilder().setDone(Done.newBuilder().setRequestId(REQUEST_ID)).build());
      to.onCompleted();
    } else {
      to.onError(failures.remove());
    }
  }

  @Override
  public void close() {
    server.shutdownNow();
  }

  private <T> void unary(Message request, T answer, StreamObserver<T> to) {
    requests.add(request);
    if (holding) {
      untilGone(to);
    } else if (failures.isEmpty()) {
      to.onNext(answer);
      to.onCompleted();
    } else {
      to.onError(failures.remove());
    }
  }

  private void untilGone(StreamObserver<?> to) {
    ((ServerCallStreamObserver<?>) to).setOnCancelHandler(gone::countDown);
    held.countDown();
  }

  private final class Recorder implements ServerInterceptor {
    @Override
    public <Q, R> ServerCall.Listener<Q> interceptCall(ServerCall<Q, R> call, Metadata sent, ServerCallHandler<Q, R> next) {
      headers.add(sent);
      var named =
          new SimpleForwardingServerCall<>(call) {
            @Override
            public void sendHeaders(Metadata reply) {
              reply.put(CallMetadata.REQUEST_ID, REQUEST_ID);
              super.sendHeaders(reply);
            }
          };
      return next.startCall(named, sent);
    }
  }
}
