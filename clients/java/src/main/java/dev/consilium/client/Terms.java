package dev.consilium.client;

import io.grpc.Metadata;
import io.grpc.stub.AbstractStub;
import io.grpc.stub.MetadataUtils;
import java.time.Duration;
import java.util.Objects;
import java.util.Set;

/** The terms of a call, whatever it asks: how long it may take, and what else goes along with it. */
final class Terms {
  /** What gRPC says itself. It would drop another's word without telling. */
  private static final Set<String> OF_GRPC = Set.of("content-type", "te", "user-agent");

  private final Metadata metadata = new Metadata();
  private Duration deadline;

  static Duration checked(Duration deadline) {
    Objects.requireNonNull(deadline, "a call needs a deadline");
    if (deadline.isZero() || deadline.isNegative()) {
      throw new IllegalArgumentException("a deadline is more than nothing, not " + deadline);
    }
    return deadline;
  }

  void deadline(Duration deadline) {
    this.deadline = checked(deadline);
  }

  void metadata(String name, String value) {
    Metadata.Key<String> key = Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
    if (key.name().startsWith("grpc-") || OF_GRPC.contains(key.name())) {
      throw new IllegalArgumentException("metadata " + key.name() + " is gRPC's own");
    }
    // gRPC would send question marks for letters, and write the value into a log before it drops it.
    if (!value.chars().allMatch(letter -> letter >= ' ' && letter <= '~')) {
      throw new IllegalArgumentException("the value of metadata " + key.name() + " is not printable ASCII");
    }
    metadata.put(key, value);
  }

  Terms copy() {
    Terms copy = new Terms();
    copy.deadline = deadline;
    copy.metadata.merge(metadata);
    return copy;
  }

  /**
   * The stub, on these terms.
   *
   * @param usual the deadline where nothing is said of one
   */
  <S extends AbstractStub<S>> S on(S stub, Duration usual) {
    return stub.withInterceptors(MetadataUtils.newAttachHeadersInterceptor(metadata))
        .withDeadlineAfter(Objects.requireNonNullElse(deadline, usual));
  }
}
