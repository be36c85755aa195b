package dev.consilium.client;

import static dev.consilium.v1.StreamDispatchResponse.EventCase.DECISION;
import static dev.consilium.v1.StreamDispatchResponse.EventCase.DELTA;
import static dev.consilium.v1.StreamDispatchResponse.EventCase.DONE;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.consilium.v1.StreamDispatchResponse;
import io.grpc.Status;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** Events as they happen. */
class StreamTest {
  private final ScriptedRouter router = new ScriptedRouter();
  private final ConsiliumClient mesh = router.client();

  @AfterEach
  void stop() {
    mesh.close();
    router.close();
  }

  @Test
  void eventsComeInOrder() {
    try (var events = mesh.stream("a question")) {
      assertEquals(List.of(DECISION, DELTA, DONE), cases(events));
    }
  }

  @Test
  void theEventsBeforeAnErrorHold() {
    router.fail(1, Status.INTERNAL.withDescription("an expert failed").asRuntimeException());
    var seen = new ArrayList<StreamDispatchResponse>();
    try (var events = mesh.stream("a question")) {
      var error = assertThrows(ConsiliumException.class, () -> events.forEach(seen::add));
      assertEquals(Status.Code.INTERNAL, error.code());
    }
    assertEquals(List.of(DECISION), cases(seen));
  }

  @Test
  void leavingEarlyCancelsTheCall() throws InterruptedException {
    router.hold();
    try (var events = mesh.stream("a question")) {
      assertEquals(DECISION, events.iterator().next().getEventCase());
    }
    assertTrue(router.gone.await(10, TimeUnit.SECONDS));
  }

  @Test
  void whatIsClosedHasNoMoreEvents() {
    router.hold();
    var events = mesh.stream("a question");
    var iterator = events.iterator();
    iterator.next();
    events.close();
    var error = assertThrows(ConsiliumException.class, iterator::hasNext);
    assertEquals(Status.Code.CANCELLED, error.code());
  }

  @Test
  void aClosedClientEndsItsStreams() {
    router.hold();
    try (var events = mesh.stream("a question")) {
      var iterator = events.iterator();
      iterator.next();
      mesh.close();
      var error = assertThrows(ConsiliumException.class, iterator::hasNext);
      assertEquals(Status.Code.CANCELLED, error.code());
      assertEquals("the client is closed", error.description());
    }
  }

  @Test
  void aStreamCanBeGoneThroughOnce() {
    try (var events = mesh.stream("a question")) {
      events.iterator();
      assertThrows(IllegalStateException.class, events::iterator);
    }
  }

  private static List<StreamDispatchResponse.EventCase> cases(Iterable<StreamDispatchResponse> events) {
    var cases = new ArrayList<StreamDispatchResponse.EventCase>();
    events.forEach(event -> cases.add(event.getEventCase()));
    return cases;
  }
}
