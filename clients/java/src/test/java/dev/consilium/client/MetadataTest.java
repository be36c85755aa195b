package dev.consilium.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.opentelemetry.api.baggage.Baggage;
import io.opentelemetry.api.baggage.propagation.W3CBaggagePropagator;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanContext;
import io.opentelemetry.api.trace.TraceFlags;
import io.opentelemetry.api.trace.TraceState;
import io.opentelemetry.context.Context;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

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
  private final ConsiliumClient mesh = ConsiliumClient.connect(router.target());

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
    try (var other = ConsiliumClient.builder(router.target()).propagator(propagator).build()) {
      TRACED.wrap(() -> other.ask("a question")).call();
    }
    assertEquals("ward=3", router.header(0, "baggage"));
    assertNull(router.header(0, "traceparent"));
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
