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

/**
 * Why there is no reply: what gRPC says, and what a Consilium server adds to it. The cause is gRPC's own exception.
 *
 * <p>No error repeats the query: neither the servers' words nor this class's.
 */
public final class ConsiliumException extends RuntimeException {
  private static final long serialVersionUID = 1L;
  private static final String DOMAIN = "consilium.dev";

  private final Status.Code code;
  private final String description;
  private final String reason;
  private final String requestId;
  private final List<Violation> violations;
  private final Map<String, String> metadata;
  private final Duration retryAfter;

  ConsiliumException(StatusRuntimeException cause) {
    this(cause, details(cause));
  }

  private ConsiliumException(StatusRuntimeException cause, List<Any> details) {
    super(text(cause, info(details).getReason(), id(cause)), cause);
    ErrorInfo info = info(details);
    code = cause.getStatus().getCode();
    description = Objects.requireNonNullElse(cause.getStatus().getDescription(), "");
    reason = info.getReason();
    requestId = id(cause);
    metadata = Map.copyOf(info.getMetadataMap());
    violations =
        detail(details, BadRequest.class).map(BadRequest::getFieldViolationsList).orElse(List.of()).stream()
            .map(violation -> new Violation(violation.getField(), violation.getDescription()))
            .toList();
    retryAfter = detail(details, RetryInfo.class).map(ConsiliumException::delay).orElse(null);
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
   * Whether the same call may well succeed later or elsewhere: a server says so, or none was reached. gRPC's own retries are over by then.
   */
  public boolean retryable() {
    return retryAfter != null || code == Status.Code.UNAVAILABLE;
  }

  private static String text(StatusRuntimeException cause, String reason, String id) {
    StringBuilder text = new StringBuilder(cause.getStatus().getCode().name());
    if (!reason.isEmpty()) {
      text.append(' ').append(reason);
    }
    if (cause.getStatus().getDescription() != null) {
      text.append(": ").append(cause.getStatus().getDescription());
    }
    if (!id.isEmpty()) {
      text.append(" (request ").append(id).append(')');
    }
    return text.toString();
  }

  private static String id(StatusRuntimeException cause) {
    Metadata trailers = cause.getTrailers();
    String id = trailers == null ? null : trailers.get(CallMetadata.REQUEST_ID);
    return Objects.requireNonNullElse(id, "");
  }

  private static ErrorInfo info(List<Any> details) {
    return detail(details, ErrorInfo.class)
        .filter(info -> info.getDomain().equals(DOMAIN))
        .orElse(ErrorInfo.getDefaultInstance());
  }

  private static Duration delay(RetryInfo info) {
    return Duration.ofSeconds(info.getRetryDelay().getSeconds(), info.getRetryDelay().getNanos());
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

  private static <T extends Message> Optional<T> detail(List<Any> details, Class<T> type) {
    for (Any detail : details) {
      if (detail.is(type)) {
        try {
          return Optional.of(detail.unpack(type));
        } catch (InvalidProtocolBufferException e) {
          return Optional.empty();
        }
      }
    }
    return Optional.empty();
  }
}
