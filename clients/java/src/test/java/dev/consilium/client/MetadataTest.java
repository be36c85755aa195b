package dev.consilium.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Metadata;
import io.grpc.stub.MetadataUtils;
import io.opentelemetry.api.GlobalOpenTelemetry;
import io.opentelemetry.api.OpenTelemetry;
import io.opentelemetry.api.baggage.Baggage;
import io.opentelemetry.api.baggage.propagation.W3CBaggagePropagator;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanContext;
import io.opentelemetry.api.trace.TraceFlags;
import io.opentelemetry.api.trace.TraceState;
import io.opentelemetry.context.Context;
import io.opentelemetry.context.propagation.ContextPropagators;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What travels with every call. */
class MetadataTest {
  private static final String TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  private static final Context TRACED =
      Context.root()
          .with(
              Span.wrap(
                  SpanContext.create(
                      "0af7651916cd43dd8448eb211c80319c",
                      "b7ad6b7169203331",
                      TraceFlags.getSampled(),
                      TraceState.builder().put("vendor", "value").build())))
          .with(Baggage.builder().put("ward", "3").build());

  private final ScriptedRouter router = new ScriptedRouter();
  private final ConsiliumClient mesh = router.client();

  @AfterEach
  void stop() {
    mesh.close();
    router.close();
  }

  @Test
  void everyKindOfCallCarriesTheTraceContextADeadlineAndTheUserAgent() throws Exception {
    TRACED.wrap(this::everyKindOfCall).call();
    assertEquals(7, router.headers.size());
    for (int call = 0; call < 7; call++) {
      assertEquals(TRACEPARENT, router.header(call, "traceparent"));
      assertEquals("vendor=value", router.header(call, "tracestate"));
      assertNull(router.header(call, "baggage"));
      assertNotNull(router.header(call, "grpc-timeout"));
      assertTrue(router.header(call, "user-agent").startsWith("consilium-java/" + System.getProperty("project.version") + " "));
    }
  }

  @Test
  void withoutASpanThereIsNoTraceContext() {
    mesh.ask("a question");
    assertNull(router.header(0, "traceparent"));
  }

  @Test
  void anotherPropagatorSendsWhatItSends() throws Exception {
    var propagator = W3CBaggagePropagator.getInstance();
    try (var other = router.builder().propagator(propagator).build()) {
      TRACED.wrap(() -> other.ask("a question")).call();
    }
    assertEquals("ward=3", router.header(0, "baggage"));
    assertNull(router.header(0, "traceparent"));
  }

  @Test
  void thePropagatorsOfTheProgramCountMoreThanTheUsual() throws Exception {
    var propagators = ContextPropagators.create(W3CBaggagePropagator.getInstance());
    GlobalOpenTelemetry.set(OpenTelemetry.propagating(propagators));
    try {
      TRACED.wrap(() -> mesh.ask("a question")).call();
    } finally {
      GlobalOpenTelemetry.resetForTest();
    }
    assertEquals("ward=3", router.header(0, "baggage"));
    assertNull(router.header(0, "traceparent"));
  }

  @Test
  void theProgramsOpenTelemetryIsLeftForTheProgramToSet() {
    mesh.ask("a question");
    assertFalse(GlobalOpenTelemetry.isSet());
  }

  @Test
  void anOldTraceContextIsReplaced() throws Exception {
    var options = AskOptions.builder().metadata("traceparent", "old").build();
    TRACED.wrap(() -> mesh.ask("a question", options)).call();
    assertEquals(List.of(TRACEPARENT), router.headers(0, "traceparent"));
  }

  @Test
  void metadataTravelsWithEveryKindOfCall() throws Exception {
    var options = AskOptions.builder().metadata("X-Ward", "3").metadata("x-ward", "4").build();
    var feedback = FeedbackOptions.builder().metadata("x-ward", "3").metadata("x-ward", "4").build();
    mesh.ask("a question", options);
    mesh.explain("a question", options);
    try (var events = mesh.stream("a question", options)) {
      events.forEach(event -> {});
    }
    mesh.feedback("token", Metrics.none(), feedback);
    mesh.askAsync("a question", options).get();
    mesh.feedbackAsync("token", Metrics.none(), feedback).get();
    for (int call = 0; call < 6; call++) {
      assertEquals(List.of("3", "4"), router.headers(call, "x-ward"));
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"grpc-timeout", "GRPC-anything", "te", "user-agent", "content-type", "trace-bin", "with space", ""})
  void namesOfOthersAndBrokenNamesAreRefused(String name) {
    assertThrows(IllegalArgumentException.class, () -> AskOptions.builder().metadata(name, "value"));
  }

  @ParameterizedTest
  @ValueSource(strings = {"two\nlines", "délai"})
  void valuesThatGrpcWouldChangeOrDropAreRefused(String value) {
    var error = assertThrows(IllegalArgumentException.class, () -> FeedbackOptions.builder().metadata("x-ward", value));
    assertFalse(error.getMessage().contains(value));
  }

  @Test
  void theChannelCanBeToldEverythingElse() {
    var key = Metadata.Key.of("x-ward", Metadata.ASCII_STRING_MARSHALLER);
    var headers = new Metadata();
    headers.put(key, "3");
    var interceptor = MetadataUtils.newAttachHeadersInterceptor(headers);
    try (var other = router.builder().channel(channel -> channel.userAgent("ward/3").intercept(interceptor)).build()) {
      other.ask("a question");
    }
    assertTrue(router.header(0, "user-agent").startsWith("ward/3 "));
    assertEquals("3", router.header(0, "x-ward"));
  }

  private Void everyKindOfCall() throws Exception {
    mesh.ask("a question");
    mesh.explain("a question");
    try (var events = mesh.stream("a question")) {
      events.forEach(event -> {});
    }
    mesh.feedback("token", Metrics.of("helpful", true));
    mesh.askAsync("a question", AskOptions.defaults()).get();
    mesh.explainAsync("a question", AskOptions.defaults()).get();
    mesh.feedbackAsync("token", Metrics.of("helpful", true)).get();
    return null;
  }
}
