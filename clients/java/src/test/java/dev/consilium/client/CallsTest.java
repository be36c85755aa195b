package dev.consilium.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.consilium.v1.Answer;
import dev.consilium.v1.CallContext;
import dev.consilium.v1.Combine;
import dev.consilium.v1.Decision;
import dev.consilium.v1.DispatchOptions;
import dev.consilium.v1.DispatchRequest;
import dev.consilium.v1.DispatchResponse;
import dev.consilium.v1.ExplainRequest;
import dev.consilium.v1.Priority;
import dev.consilium.v1.Query;
import dev.consilium.v1.SendFeedbackRequest;
import dev.consilium.v1.SendFeedbackRequest.Metric;
import dev.consilium.v1.StreamDispatchRequest;
import dev.consilium.v1.Text;
import dev.consilium.v1.Turn;
import dev.consilium.v1.Values;
import io.grpc.Status;
import io.grpc.TlsChannelCredentials;
import java.io.IOException;
import java.net.ServerSocket;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** What is asked, and what comes back. */
class CallsTest {
  /** How the first record of a TLS connection begins. */
  private static final int TLS_HANDSHAKE = 22;

  private static final AskOptions OPTIONS =
      AskOptions.builder()
          .attribute("audience", "patient", "clinician")
          .label("desk", "discharge")
          .topK(2)
          .minConfidence(0.25)
          .experts("triage", "general")
          .version("triage", "1.0.0")
          .combine(Combine.COMBINE_ALL)
          .priority(Priority.PRIORITY_BATCH)
          .requestId("mine")
          .tenant("ward-3")
          .tier("gold")
          .subject("nurse")
          .purpose("treatment")
          .build();

  private static final DispatchRequest REQUEST =
      DispatchRequest.newBuilder()
          .setQuery(
              Query.newBuilder()
                  .setText("a question")
                  .putAttributes("audience", Values.newBuilder().addValues("patient").addValues("clinician").build())
                  .putLabels("desk", "discharge"))
          .setContext(
              CallContext.newBuilder()
                  .setRequestId("mine")
                  .setTenant("ward-3")
                  .setTier("gold")
                  .setSubject("nurse")
                  .setPurpose("treatment"))
          .setOptions(
              DispatchOptions.newBuilder()
                  .setTopK(2)
                  .setMinConfidence(0.25)
                  .addExperts("triage")
                  .addExperts("general")
                  .putVersions("triage", "1.0.0")
                  .setCombine(Combine.COMBINE_ALL)
                  .setPriority(Priority.PRIORITY_BATCH))
          .build();

  private final ScriptedRouter router = new ScriptedRouter();
  private final ConsiliumClient mesh = router.client();

  @AfterEach
  void stop() {
    mesh.close();
    router.close();
  }

  @Test
  void everyOptionReachesTheRouterWithEveryKindOfCall() throws Exception {
    mesh.ask("a question", OPTIONS);
    mesh.explain("a question", OPTIONS);
    try (var events = mesh.stream("a question", OPTIONS)) {
      events.iterator().next();
    }
    mesh.askAsync("a question", OPTIONS).get();
    mesh.explainAsync("a question", OPTIONS).get();

    var query = REQUEST.getQuery();
    var context = REQUEST.getContext();
    var options = REQUEST.getOptions();
    var explain = ExplainRequest.newBuilder().setQuery(query).setContext(context).setOptions(options).build();
    var stream = StreamDispatchRequest.newBuilder().setQuery(query).setContext(context).setOptions(options).build();
    assertEquals(List.of(REQUEST, explain, stream, REQUEST, explain), router.requests);
  }

  @Test
  void whatIsNotSaidIsLeftToTheMesh() {
    mesh.ask("a question");
    var bare = DispatchRequest.newBuilder().setQuery(Query.newBuilder().setText("a question")).build();
    assertEquals(List.of(bare), router.requests);
  }

  @Test
  void messagesSayTheSameAsWords() {
    var options = AskOptions.builder().context(REQUEST.getContext()).options(REQUEST.getOptions()).build();
    mesh.ask(REQUEST.getQuery(), options);
    assertEquals(List.of(REQUEST), router.requests);
  }

  @Test
  void whatTheQuerySaysAndWhatTheOptionsSayGoTogether() {
    var context = Turn.newBuilder().setRole(Turn.Role.ROLE_USER).setText("earlier").build();
    var patient = Values.newBuilder().addValues("patient").build();
    var query = Query.newBuilder().setText("later").addContext(context).putAttributes("audience", patient).build();
    mesh.ask(query, AskOptions.builder().label("desk", "discharge").build());
    var sent = (DispatchRequest) router.requests.get(0);
    assertEquals(query.toBuilder().putLabels("desk", "discharge").build(), sent.getQuery());
  }

  @Test
  void theSameIsNotSaidTwice() {
    assertTwice("attribute", "audience", AskOptions.builder().attribute("audience", "clinician"));
    assertTwice("label", "desk", AskOptions.builder().label("desk", "discharge"));
    assertTwice("context", "tenant", AskOptions.builder().context(REQUEST.getContext()).tenant("ward-3"));
    assertTwice("options", "top_k", AskOptions.builder().topK(2).options(REQUEST.getOptions()));
    assertTrue(router.headers.isEmpty());
  }

  @Test
  void aRefusalIsAReply() {
    var refused = Decision.newBuilder().setOutcome(Decision.Outcome.OUTCOME_REFUSED).setReason("NOBODY_KNOWS");
    router.reply(DispatchResponse.newBuilder().setDecision(refused).build());
    var reply = mesh.ask("a question");
    assertEquals(Decision.Outcome.OUTCOME_REFUSED, reply.getDecision().getOutcome());
    assertFalse(reply.hasAnswer());
  }

  @Test
  void aReplyMayBeMuchLongerThanGrpcsOwnLimit() {
    var text = Text.newBuilder().setText("x".repeat(20 << 20));
    var reply = DispatchResponse.newBuilder().setAnswer(Answer.newBuilder().setText(text)).build();
    router.reply(reply);
    assertEquals(reply, mesh.ask("a question"));
  }

  @Test
  void feedbackCarriesTheTokenAndEveryKindOfMetric() throws Exception {
    var metrics = Metrics.of("helpful", true).and("rating", 4).and("comment", "clear");
    router.reply(DispatchResponse.newBuilder().setFeedbackToken("token").build());
    mesh.feedback(mesh.ask("a question"), metrics);
    mesh.feedbackAsync("token", metrics).get();

    var feedback =
        SendFeedbackRequest.newBuilder()
            .setToken("token")
            .addMetrics(Metric.newBuilder().setName("helpful").setBoolean(true))
            .addMetrics(Metric.newBuilder().setName("rating").setNumber(4))
            .addMetrics(Metric.newBuilder().setName("comment").setText("clear"))
            .build();
    assertEquals(List.of(feedback, feedback), router.requests.subList(1, 3));
  }

  @Test
  void aFutureFailsWithTheSameExceptionAsACall() {
    router.fail(1, Status.NOT_FOUND.withDescription("no such expert").asRuntimeException());
    var reply = mesh.askAsync("a question", AskOptions.defaults());
    var failure = assertThrows(ExecutionException.class, reply::get);
    var cause = assertInstanceOf(ConsiliumException.class, failure.getCause());
    assertEquals(Status.Code.NOT_FOUND, cause.code());
  }

  @Test
  void cancellingAFutureCancelsTheCall() throws InterruptedException {
    router.hold();
    var reply = mesh.askAsync("a question", AskOptions.defaults());
    assertTrue(router.held.await(10, TimeUnit.SECONDS));
    reply.cancel(true);
    assertTrue(router.gone.await(10, TimeUnit.SECONDS));
  }

  @Test
  void aClosedClientRefusesToCall() {
    mesh.close();
    var error = assertThrows(ConsiliumException.class, () -> mesh.ask("a question"));
    assertEquals(Status.Code.CANCELLED, error.code());
    assertEquals("the client is closed", error.description());
    assertFalse(error.retryable());
    assertTrue(router.headers.isEmpty());
  }

  @Test
  void closingEndsWhatRuns() throws InterruptedException {
    router.hold();
    var reply = mesh.askAsync("a question", AskOptions.defaults());
    assertTrue(router.held.await(10, TimeUnit.SECONDS));
    mesh.close();
    var failure = assertThrows(ExecutionException.class, reply::get);
    var cause = assertInstanceOf(ConsiliumException.class, failure.getCause());
    assertEquals(Status.Code.CANCELLED, cause.code());
    assertFalse(cause.retryable());
    assertTrue(router.gone.await(10, TimeUnit.SECONDS));
  }

  @Test
  void credentialsReplacePlaintext() throws IOException {
    try (var listener = new ServerSocket(0);
        var secure = secured("127.0.0.1:" + listener.getLocalPort())) {
      var reply = secure.askAsync("a question", AskOptions.defaults());
      try (var connection = listener.accept()) {
        assertEquals(TLS_HANDSHAKE, connection.getInputStream().read());
      }
      reply.cancel(true);
    }
  }

  @Test
  void whatIsMissingIsSaidAtOnce() {
    assertThrows(NullPointerException.class, () -> ConsiliumClient.connect(null));
    assertThrows(NullPointerException.class, () -> mesh.ask((String) null));
    assertThrows(NullPointerException.class, () -> mesh.feedback((String) null, Metrics.none()));
    assertThrows(NullPointerException.class, () -> AskOptions.builder().attribute("audience", (String) null));
    assertTrue(router.headers.isEmpty());
  }

  private void assertTwice(String what, String name, AskOptions.Builder options) {
    var error = assertThrows(IllegalArgumentException.class, () -> mesh.ask(REQUEST.getQuery(), options.build()));
    assertEquals(what + " said twice, in a message and in words: " + name, error.getMessage());
  }

  private static ConsiliumClient secured(String target) {
    return ConsiliumClient.builder(target).credentials(TlsChannelCredentials.create()).build();
  }
}
