package dev.consilium.client;

import dev.consilium.v1.CallContext;
import dev.consilium.v1.Combine;
import dev.consilium.v1.DispatchOptions;
import dev.consilium.v1.DispatchRequest;
import dev.consilium.v1.Priority;
import dev.consilium.v1.Query;
import dev.consilium.v1.Values;
import java.time.Duration;
import java.util.List;
import java.util.Objects;
import java.util.Optional;

/**
 * What goes along with a query: facts about it, who asks, what should be different from the mesh's own settings, and how long
 * it may take. Immutable; what is not said is left to the mesh, and the deadline to the client.
 *
 * <pre>{@code
 * var options = AskOptions.builder().attribute("audience", "patient").topK(2).deadline(Duration.ofSeconds(2)).build();
 * }</pre>
 */
public final class AskOptions {
  private static final AskOptions DEFAULTS = builder().build();

  private final DispatchRequest template;
  private final Duration deadline;

  private AskOptions(Builder builder) {
    template = builder.template.build();
    deadline = builder.deadline;
  }

  /** Nothing said. */
  public static AskOptions defaults() {
    return DEFAULTS;
  }

  /** The way to everything else. */
  public static Builder builder() {
    return new Builder();
  }

  /** What the query says itself counts more than what is said here. */
  DispatchRequest request(Query query) {
    return template.toBuilder().mergeQuery(query).build();
  }

  Optional<Duration> deadline() {
    return Optional.ofNullable(deadline);
  }

  /** Says things one by one. */
  public static final class Builder {
    private final DispatchRequest.Builder template = DispatchRequest.newBuilder();
    private Duration deadline;

    private Builder() {}

    /** A declared dimension of the mesh, for example {@code audience}, with one or more values. */
    public Builder attribute(String name, String... values) {
      Values.Builder all = Values.newBuilder().addAllValues(List.of(values));
      template.getQueryBuilder().putAttributes(name, all.build());
      return this;
    }

    /** A free-form fact about the query. Only rules read it. */
    public Builder label(String name, String value) {
      template.getQueryBuilder().putLabels(name, value);
      return this;
    }

    /** At most so many experts, 1 to 16. */
    public Builder topK(int experts) {
      template.getOptionsBuilder().setTopK(experts);
      return this;
    }

    /** The least probability at which an expert is chosen, 0 to 1. */
    public Builder minConfidence(double probability) {
      template.getOptionsBuilder().setMinConfidence(probability);
      return this;
    }

    /** Only these experts, by name. */
    public Builder experts(String... names) {
      template.getOptionsBuilder().clearExperts().addAllExperts(List.of(names));
      return this;
    }

    /** Which version of an expert to use. */
    public Builder version(String expert, String version) {
      template.getOptionsBuilder().putVersions(expert, version);
      return this;
    }

    /** How several experts' answers become one. */
    public Builder combine(Combine combine) {
      template.getOptionsBuilder().setCombine(combine);
      return this;
    }

    /** Under pressure the lower ones give way first. */
    public Builder priority(Priority priority) {
      template.getOptionsBuilder().setPriority(priority);
      return this;
    }

    /** The request's id, where the caller has one; the router makes one otherwise. */
    public Builder requestId(String id) {
      template.getContextBuilder().setRequestId(id);
      return this;
    }

    /** For whom the mesh works. */
    public Builder tenant(String tenant) {
      template.getContextBuilder().setTenant(tenant);
      return this;
    }

    /** The tenant's tier. */
    public Builder tier(String tier) {
      template.getContextBuilder().setTier(tier);
      return this;
    }

    /** On whose behalf: a user's or a system's identity. */
    public Builder subject(String subject) {
      template.getContextBuilder().setSubject(subject);
      return this;
    }

    /** Purpose of use, for example {@code treatment} or {@code research}. */
    public Builder purpose(String purpose) {
      template.getContextBuilder().setPurpose(purpose);
      return this;
    }

    /** Everything that the message says about the caller, in place of what was said before. */
    public Builder context(CallContext context) {
      template.setContext(context);
      return this;
    }

    /** Everything that the message says about the dispatch, in place of what was said before. */
    public Builder options(DispatchOptions options) {
      template.setOptions(options);
      return this;
    }

    /** How long the call may take: more than nothing. */
    public Builder deadline(Duration deadline) {
      this.deadline = Deadlines.checked(deadline);
      return this;
    }

    /** The options as they are now; the builder may go on. */
    public AskOptions build() {
      return new AskOptions(this);
    }
  }
}
