package dev.consilium.client;

import java.time.Duration;

/** How feedback is sent: how long it may take, and what goes along with it. Immutable. */
public final class FeedbackOptions {
  private static final FeedbackOptions DEFAULTS = builder().build();

  private final Terms terms;

  private FeedbackOptions(Builder builder) {
    terms = builder.terms.copy();
  }

  /** The client's deadline, and nothing else. */
  public static FeedbackOptions defaults() {
    return DEFAULTS;
  }

  /** The way to everything else. */
  public static Builder builder() {
    return new Builder();
  }

  Terms terms() {
    return terms;
  }

  /** Says things one by one. */
  public static final class Builder {
    private final Terms terms = new Terms();

    private Builder() {}

    /** How long the call may take: more than nothing. */
    public Builder deadline(Duration deadline) {
      terms.deadline(deadline);
      return this;
    }

    /** As {@link AskOptions.Builder#metadata(String, String)}. */
    public Builder metadata(String name, String value) {
      terms.metadata(name, value);
      return this;
    }

    /** The options as they are now; the builder may go on. */
    public FeedbackOptions build() {
      return new FeedbackOptions(this);
    }
  }
}
