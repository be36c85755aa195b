package dev.consilium.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.Message;
import com.google.rpc.BadRequest;
import com.google.rpc.BadRequest.FieldViolation;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import dev.consilium.client.ConsiliumException.Violation;
import dev.consilium.v1.Query;
import dev.consilium.v1.Values;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.io.IOException;
import java.net.ServerSocket;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What an exception says. */
class ErrorsTest {
  private static final Metadata.Key<byte[]> DETAILS =
      Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);

  private final ScriptedRouter router = new ScriptedRouter();
  private final ConsiliumClient mesh = router.client();

  @AfterEach
  void stop() {
    mesh.close();
    router.close();
  }

  @Test
  void aWrongRequestNamesEveryFieldThatIsWrong() {
    var wrong =
        BadRequest.newBuilder()
            .addFieldViolations(FieldViolation.newBuilder().setField("options.top_k").setDescription("1 to 16"))
            .addFieldViolations(FieldViolation.newBuilder().setField("query.text").setDescription("empty"));
    var error = failing(Status.Code.INVALID_ARGUMENT, info("consilium.dev", "INVALID_REQUEST"), wrong.build());
    assertEquals(Status.Code.INVALID_ARGUMENT, error.code());
    assertEquals("INVALID_REQUEST", error.reason());
    assertEquals("what is wrong", error.description());
    assertEquals(List.of(new Violation("options.top_k", "1 to 16"), new Violation("query.text", "empty")), error.violations());
    assertEquals(Map.of("expert", "triage"), error.metadata());
    assertEquals("request-1", error.requestId());
    assertEquals("INVALID_ARGUMENT INVALID_REQUEST: what is wrong (request request-1)", error.getMessage());
    assertEquals(Optional.empty(), error.retryAfter());
    assertFalse(error.retryable());
  }

  @Test
  void anOverloadSaysWhenToComeBack() {
    var error = failing(Status.Code.RESOURCE_EXHAUSTED, info("consilium.dev", "OVERLOADED"), retry(1, 500_000_000));
    assertEquals(Optional.of(Duration.ofMillis(1500)), error.retryAfter());
    assertTrue(error.retryable());
  }

  @Test
  void reasonsOfOthersAreNotOurs() {
    var error = failing(Status.Code.PERMISSION_DENIED, info("example.org", "NOT_YOURS"));
    assertEquals("", error.reason());
    assertEquals(Map.of(), error.metadata());
    assertEquals("PERMISSION_DENIED: what is wrong (request request-1)", error.getMessage());
  }

  @Test
  void reasonsOfOthersDoNotHideOurs() {
    var error = failing(Status.Code.NOT_FOUND, info("example.org", "PROXIED"), info("consilium.dev", "NO_SUCH_EXPERT"));
    assertEquals("NO_SUCH_EXPERT", error.reason());
    assertEquals(Map.of("expert", "triage"), error.metadata());
  }

  @Test
  void aBrokenDetailDoesNotHideAGoodOne() {
    var status = com.google.rpc.Status.newBuilder().setCode(Status.Code.NOT_FOUND.value()).setMessage("what is wrong");
    status.addDetails(broken(ErrorInfo.class)).addDetails(Any.pack(info("consilium.dev", "NO_SUCH_EXPERT")));
    status.addDetails(broken(RetryInfo.class)).addDetails(Any.pack(retry(1, 0)));
    var error = failing(StatusProto.toStatusRuntimeException(status.build()));
    assertEquals("NO_SUCH_EXPERT", error.reason());
    assertEquals(Optional.of(Duration.ofSeconds(1)), error.retryAfter());
  }

  @Test
  void aTimeThatCannotBeIsNone() {
    for (RetryInfo delay : List.of(retry(Long.MAX_VALUE, Integer.MAX_VALUE), retry(-1, 0), retry(0, -1))) {
      assertEquals(Optional.empty(), failing(Status.Code.RESOURCE_EXHAUSTED, delay).retryAfter());
    }
  }

  @Test
  void nobodyThereIsRetryableUnlessItIsUsWhoSaySo() {
    assertTrue(failing(Status.UNAVAILABLE.asRuntimeException()).retryable());
    assertTrue(failing(Status.UNAVAILABLE.asRuntimeException(pushback("1"))).retryable());
    assertTrue(failing(Status.Code.UNAVAILABLE, info("example.org", "PROXIED")).retryable());
    assertTrue(failing(Status.Code.UNAVAILABLE, info("consilium.dev", "OVERLOADED"), retry(1, 0)).retryable());
    assertFalse(failing(Status.Code.UNAVAILABLE, info("consilium.dev", "NO_LIVE_INSTANCE")).retryable());
    assertFalse(failing(Status.INTERNAL.asRuntimeException()).retryable());
  }

  @ParameterizedTest
  @ValueSource(strings = {"-1", "later", ""})
  void aServerThatPushesBackWantsNoOtherTry(String pushback) {
    for (Status.Code code : List.of(Status.Code.UNAVAILABLE, Status.Code.RESOURCE_EXHAUSTED)) {
      var status = com.google.rpc.Status.newBuilder().setCode(code.value()).addDetails(Any.pack(retry(1, 0)));
      var error = failing(StatusProto.toStatusRuntimeException(status.build(), pushback(pushback)));
      assertEquals(Optional.empty(), error.retryAfter());
      assertFalse(error.retryable());
    }
  }

  @Test
  void aLongErrorArrivesWhole() {
    var problem = "x".repeat(40_000);
    var wrong = BadRequest.newBuilder().addFieldViolations(FieldViolation.newBuilder().setField("f").setDescription(problem));
    assertEquals(problem, failing(Status.Code.INVALID_ARGUMENT, wrong.build()).violations().get(0).problem());
  }

  @Test
  void detailsThatCannotBeReadDoNotHideTheError() {
    var garbage = new Metadata();
    garbage.put(DETAILS, new byte[] {-1, -1, -1});
    var details = new Metadata();
    var status = com.google.rpc.Status.newBuilder().setCode(Status.Code.NOT_FOUND.value()).addDetails(broken(BadRequest.class));
    details.put(DETAILS, status.build().toByteArray());
    for (Metadata trailers : List.of(garbage, details)) {
      var error = failing(Status.NOT_FOUND.withDescription("no such expert").asRuntimeException(trailers));
      assertEquals(Status.Code.NOT_FOUND, error.code());
      assertEquals("NOT_FOUND: no such expert", error.getMessage());
      assertEquals(List.of(), error.violations());
    }
  }

  @Test
  void theCauseIsGrpcsOwn() {
    var error = failing(Status.Code.INTERNAL, info("consilium.dev", "DEFECT"));
    var cause = (StatusRuntimeException) error.getCause();
    assertSame(Status.Code.INTERNAL, cause.getStatus().getCode());
  }

  @Test
  void theRequestsIdMayHaveComeWithTheHeaders() {
    router.fail(1, Status.INTERNAL.asRuntimeException());
    try (var events = mesh.stream("a question")) {
      var error = assertThrows(ConsiliumException.class, () -> events.forEach(event -> {}));
      assertEquals(ScriptedRouter.REQUEST_ID, error.requestId());
    }
  }

  /** Of those that are made here; a server's words are the server's. */
  @Test
  void noErrorRepeatsTheQuery() {
    var secret = Values.newBuilder().addValues("secret").build();
    var query = Query.newBuilder().setText("secret").putAttributes("audience", secret).putLabels("desk", "secret").build();
    var hasty = AskOptions.builder().deadline(Duration.ofMillis(1)).build();
    router.hold();
    assertSilent(() -> mesh.ask(query, AskOptions.builder().attribute("audience", "secret").build()));
    assertSilent(() -> mesh.ask(query, AskOptions.builder().label("desk", "secret").build()));
    assertSilent(() -> AskOptions.builder().metadata("x-ward", "secret\n"));
    assertSilent(() -> mesh.ask(query, hasty));
    mesh.close();
    assertSilent(() -> mesh.ask(query, AskOptions.defaults()));
    assertSilent(() -> mesh.feedback("secret", Metrics.of("secret", "secret")));
  }

  private static void assertSilent(Executable call) {
    for (Throwable error = assertThrows(RuntimeException.class, call); error != null; error = error.getCause()) {
      assertFalse(error.toString().contains("secret"), error::toString);
    }
  }

  @Test
  void nobodyThereIsWorthAnotherTry() throws IOException {
    int port;
    try (var taken = new ServerSocket(0)) {
      port = taken.getLocalPort();
    }
    try (var nobody = ConsiliumClient.builder("127.0.0.1:" + port).deadline(Duration.ofHours(1)).build()) {
      var error = assertThrows(ConsiliumException.class, () -> nobody.ask("a question"));
      assertEquals(Status.Code.UNAVAILABLE, error.code());
      assertEquals("", error.reason());
      assertEquals("", error.requestId());
      assertTrue(error.retryable());
    }
  }

  private ConsiliumException failing(Status.Code code, Message... details) {
    var status = com.google.rpc.Status.newBuilder().setCode(code.value()).setMessage("what is wrong");
    for (Message detail : details) {
      status.addDetails(Any.pack(detail));
    }
    var trailers = new Metadata();
    trailers.put(CallMetadata.REQUEST_ID, "request-1");
    return failing(StatusProto.toStatusRuntimeException(status.build(), trailers));
  }

  /** However often it is tried. */
  private ConsiliumException failing(StatusRuntimeException error) {
    router.fail(3, error);
    return assertThrows(ConsiliumException.class, () -> mesh.ask("a question"));
  }

  private static Metadata pushback(String delay) {
    var trailers = new Metadata();
    trailers.put(CallMetadata.PUSHBACK, delay);
    return trailers;
  }

  private static Any broken(Class<? extends Message> detail) {
    var broken = Any.newBuilder().setTypeUrl("type.googleapis.com/google.rpc." + detail.getSimpleName());
    return broken.setValue(ByteString.copyFromUtf8("\n")).build();
  }

  private static RetryInfo retry(long seconds, int nanos) {
    var delay = com.google.protobuf.Duration.newBuilder().setSeconds(seconds).setNanos(nanos);
    return RetryInfo.newBuilder().setRetryDelay(delay).build();
  }

  private static ErrorInfo info(String domain, String reason) {
    return ErrorInfo.newBuilder().setDomain(domain).setReason(reason).putMetadata("expert", "triage").build();
  }
}
