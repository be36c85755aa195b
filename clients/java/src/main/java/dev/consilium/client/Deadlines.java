package dev.consilium.client;

import java.time.Duration;
import java.util.Objects;

/** What a deadline may be. */
final class Deadlines {
  private Deadlines() {}

  static Duration checked(Duration deadline) {
    Objects.requireNonNull(deadline, "a call needs a deadline");
    if (deadline.isZero() || deadline.isNegative()) {
      throw new IllegalArgumentException("a deadline is more than nothing, not " + deadline);
    }
    return deadline;
  }
}
