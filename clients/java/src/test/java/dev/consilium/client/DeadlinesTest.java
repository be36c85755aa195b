package dev.consilium.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Status;
import java.time.Duration;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** No call without an end. */
class DeadlinesTest {
  private final ScriptedRouter router = new ScriptedRouter();
  private final ConsiliumClient mesh = ConsiliumClient.connect(router.target());

  @AfterEach
  void stop() {
    mesh.close();
    router.close();
  }

  @Test
  void theCallsDeadlineCountsMoreThanTheClients() {
    try (var patient = ConsiliumClient.builder(router.target()).deadline(Duration.ofHours(1)).build()) {
      patient.ask("a question");
      patient.ask("a question", AskOptions.builder().deadline(Duration.ofHours(3)).build());
      patient.feedback("token", Metrics.none());
      patient.feedback("token", Metrics.none(), FeedbackOptions.builder().deadline(Duration.ofHours(3)).build());
    }
    mesh.ask("a question");
    // A little of each has passed by the time that it is sent.
    assertSentAbout(0, Duration.ofHours(1));
    assertSentAbout(1, Duration.ofHours(3));
    assertSentAbout(2, Duration.ofHours(1));
    assertSentAbout(3, Duration.ofHours(3));
    assertSentAbout(4, ConsiliumClient.DEFAULT_DEADLINE);
  }

  @Test
  void whatTakesTooLongEnds() throws InterruptedException {
    router.hold();
    var options = AskOptions.builder().deadline(Duration.ofMillis(500)).build();
    var error = assertThrows(ConsiliumException.class, () -> mesh.ask("a question", options));
    assertEquals(Status.Code.DEADLINE_EXCEEDED, error.code());
    assertTrue(router.gone.await(10, TimeUnit.SECONDS));
  }

  @Test
  void aStreamEndsToo() {
    router.hold();
    try (var events = mesh.stream("a question", AskOptions.builder().deadline(Duration.ofMillis(500)).build())) {
      var error = assertThrows(ConsiliumException.class, () -> events.forEach(event -> {}));
      assertEquals(Status.Code.DEADLINE_EXCEEDED, error.code());
    }
  }

  @ParameterizedTest
  @ValueSource(longs = {0, -1})
  void aDeadlineIsMoreThanNothing(long nanos) {
    var deadline = Duration.ofNanos(nanos);
    var client = ConsiliumClient.builder(router.target());
    assertThrows(IllegalArgumentException.class, () -> client.deadline(deadline));
    assertThrows(IllegalArgumentException.class, () -> AskOptions.builder().deadline(deadline));
    assertThrows(IllegalArgumentException.class, () -> FeedbackOptions.builder().deadline(deadline));
  }

  @Test
  void noDeadlineIsNoChoice() {
    var client = ConsiliumClient.builder(router.target());
    assertThrows(NullPointerException.class, () -> client.deadline(null));
    assertThrows(NullPointerException.class, () -> AskOptions.builder().deadline(null));
    assertThrows(NullPointerException.class, () -> FeedbackOptions.builder().deadline(null));
  }

  /** {@code grpc-timeout} is a number and a unit, and never more than was asked for. */
  private void assertSentAbout(int call, Duration deadline) {
    String timeout = router.header(call, "grpc-timeout");
    long number = Long.parseLong(timeout.substring(0, timeout.length() - 1));
    Duration sent =
        switch (timeout.charAt(timeout.length() - 1)) {
          case 'n' -> Duration.ofNanos(number);
          case 'u' -> Duration.ofNanos(1000 * number);
          case 'm' -> Duration.ofMillis(number);
          case 'S' -> Duration.ofSeconds(number);
          default -> throw new AssertionError(timeout);
        };
    assertTrue(sent.compareTo(deadline) <= 0 && sent.compareTo(deadline.dividedBy(2)) > 0, timeout);
  }
}
