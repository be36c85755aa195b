package dev.consilium.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** What is tried again, and what is not: the published service config at work. */
class RetriesTest {
  private static final StatusRuntimeException UNAVAILABLE = Status.UNAVAILABLE.asRuntimeException();

  private final ScriptedRouter router = new ScriptedRouter();
  private final ConsiliumClient mesh = router.client();

  @AfterEach
  void stop() {
    mesh.close();
    router.close();
  }

  @Test
  void aServerThatIsNotThereYetIsAskedAgain() {
    router.fail(2, UNAVAILABLE);
    assertEquals(ScriptedRouter.REQUEST_ID, mesh.ask("a question").getRequestId());
    assertEquals(3, router.headers.size());
    assertEquals("2", router.header(2, "grpc-previous-rpc-attempts"));
  }

  @Test
  void threeAttemptsAreAll() {
    router.fail(3, UNAVAILABLE);
    var error = assertThrows(ConsiliumException.class, () -> mesh.explain("a question"));
    assertEquals(Status.Code.UNAVAILABLE, error.code());
    assertEquals(3, router.headers.size());
  }

  @Test
  void feedbackIsSentAgainToo() {
    router.fail(1, UNAVAILABLE);
    mesh.feedback("token", Metrics.of("helpful", true));
    assertEquals(2, router.headers.size());
  }

  @Test
  void aWrongRequestStaysWrong() {
    router.fail(1, Status.INVALID_ARGUMENT.asRuntimeException());
    assertThrows(ConsiliumException.class, () -> mesh.ask("a question"));
    assertEquals(1, router.headers.size());
  }

  @Test
  void aServerThatPushesBackIsLeftAlone() {
    var trailers = new Metadata();
    trailers.put(Metadata.Key.of("grpc-retry-pushback-ms", Metadata.ASCII_STRING_MARSHALLER), "-1");
    router.fail(1, Status.UNAVAILABLE.asRuntimeException(trailers));
    assertThrows(ConsiliumException.class, () -> mesh.ask("a question"));
    assertEquals(1, router.headers.size());
  }

  @Test
  void aStreamIsTriedAgainUntilItBegins() {
    router.refuse(2, UNAVAILABLE);
    try (var events = mesh.stream("a question")) {
      assertTrue(events.iterator().next().hasDecision());
    }
    assertEquals(3, router.headers.size());
  }

  @Test
  void aStreamIsNotTriedAgainOnceItHasBegun() {
    router.fail(1, UNAVAILABLE);
    try (var events = mesh.stream("a question")) {
      assertThrows(ConsiliumException.class, () -> events.forEach(event -> {}));
    }
    assertEquals(1, router.headers.size());
  }

  @Test
  void aLongQueryIsTriedAgainLikeAShortOne() {
    router.fail(1, UNAVAILABLE);
    mesh.ask("x".repeat(8_000_000));
    assertEquals(2, router.headers.size());
  }
}
