package dev.consilium.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.io.Serializable;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.stream.Stream;

/**
 * Why there is no reply: what gRPC says, and what a Consilium server adds to it. The cause is gRPC's own exception.
 *
 * <p>No error repeats the query: neither the servers' words nor this class's.
 */
public final class ConsiliumException extends RuntimeException {
  private static final long serialVersionUID = 1L;
  private static final String DOMAIN = "consilium.dev";

  /** The longest that a duration may say, by its definition: 10,000 years. */
  private static final long MAX_SECONDS = 315_576_000_000L;

  private final Status.Code code;
  private final String description;
  private final String reason;
  private final String requestId;
  private final List<Violation> violations;
  private final Map<String, String> metadata;
  private final Duration retryAfter;

  private final boolean unwelcome;

  ConsiliumException(StatusRuntimeException cause) {
    this(cause, Objects.requireNonNullElseGet(cause.getTrailers(), Metadata::new), details(cause));
  }

  private ConsiliumException(StatusRuntimeException cause, Metadata trailers, List<Any> details) {
    this(cause, trailers, details, info(details));
  }

  private ConsiliumException(StatusRuntimeException cause, Metadata trailers, List<Any> details, ErrorInfo info) {
    super(text(cause.getStatus(), info.getReason(), id(trailers)), cause);
    code = cause.getStatus().getCode();
    description = Objects.requireNonNullElse(cause.getStatus().getDescription(), "");
    reason = info.getReason();
    requestId = id(trailers);
    metadata = Map.copyOf(info.getMetadataMap());
    violations =
        all(details, BadRequest.class)
            .flatMap(wrong -> wrong.getFieldViolationsList().stream())
            .map(violation -> new Violation(violation.getField(), violation.getDescription()))
            .toList();
    unwelcome = unwelcome(trailers);
    retryAfter = unwelcome ? null : delay(details).orElse(null);
  }

  /** One wrong field of a request. */
  public record Violation(String field, String problem) implements Serializable {}

  /** The gRPC code. */
  public Status.Code code() {
    return code;
  }

  /** The words of the server, or of gRPC; empty where there are none. {@link #getMessage()} has them with everything else. */
  public String description() {
    return description;
  }

  /** Machine-readable, for example {@code NO_LIVE_INSTANCE}; empty where no Consilium server spoke. */
  public String reason() {
    return reason;
  }

  /** What a server's log calls this request; empty where no Consilium server spoke. */
  public String requestId() {
    return requestId;
  }

  /** Every field of the request that is wrong. */
  public List<Violation> violations() {
    return violations;
  }

  /** The facts that belong to the reason, for example {@code expert}. */
  public Map<String, String> metadata() {
    return metadata;
  }

  /** After how long another try is worth it; empty where the server does not say that it is. */
  public Optional<Duration> retryAfter() {
    return Optional.ofNullable(retryAfter);
  }

  /**
   * Whether the same call may well succeed later or elsewhere: a server says so, or none was reached. gRPC's own retries are
   * over by then.
   */
  public boolean retryable() {
    return retryAfter != null || code == Status.Code.UNAVAILABLE && reason.isEmpty() && !unwelcome;
  }

  private static String text(Status status, String reason, String id) {
    StringBuilder text = new StringBuilder(status.getCode().name());
    if (!reason.isEmpty()) {
      text.append(' ').append(reason);
    }
    if (status.getDescription() != null) {
      text.append(": ").append(status.getDescription());
    }
    if (!id.isEmpty()) {
      text.append(" (request ").append(id).append(')');
    }
    return text.toString();
  }

  private static String id(Metadata trailers) {
    return Objects.requireNonNullElse(trailers.get(CallMetadata.REQUEST_ID), "");
  }

  /** Whether the server wants no other try. As everywhere in gRPC, what is not a number says so too. */
  private static boolean unwelcome(Metadata trailers) {
    String pushback = trailers.get(CallMetadata.PUSHBACK);
    try {
      return pushback != null && Integer.parseInt(pushback) < 0;
    } catch (NumberFormatException e) {
      return true;
    }
  }

  /** A proxy may have added what it knows, before ours or after. */
  private static ErrorInfo info(List<Any> details) {
    return all(details, ErrorInfo.class)
        .filter(info -> info.getDomain().equals(DOMAIN))
        .findFirst()
        .orElse(ErrorInfo.getDefaultInstance());
  }

  private static Optional<Duration> delay(List<Any> details) {
    return all(details, RetryInfo.class)
        .map(RetryInfo::getRetryDelay)
        .filter(delay -> delay.getSeconds() >= 0 && delay.getSeconds() <= MAX_SECONDS && delay.getNanos() >= 0)
        .map(delay -> Duration.ofSeconds(delay.getSeconds(), delay.getNanos()))
        .findFirst();
  }

  /** Details that cannot be read are none: the code and the description still hold. */
  private static List<Any> details(StatusRuntimeException cause) {
    try {
      com.google.rpc.Status status = StatusProto.fromThrowable(cause);
      return status == null ? List.of() : status.getDetailsList();
    } catch (IllegalArgumentException e) {
      return List.of();
    }
  }

  private static <T extends Message> Stream<T> all(List<Any> details, Class<T> type) {
    return details.stream().filter(detail -> detail.is(type)).flatMap(detail -> readable(detail, type));
  }

  private static <T extends Message> Stream<T> readable(Any detail, Class<T> type) {
    try {
      return Stream.of(detail.unpack(type));
    } catch (InvalidProtocolBufferException e) {
      return Stream.empty();
    }
  }
}
