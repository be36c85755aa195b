package dev.consilium.client;

import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Message;
import dev.consilium.v1.CallContext;
import dev.consilium.v1.Combine;
import dev.consilium.v1.DispatchOptions;
import dev.consilium.v1.DispatchRequest;
import dev.consilium.v1.Priority;
import dev.consilium.v1.Query;
import dev.consilium.v1.Values;
import java.time.Duration;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;

/**
 * What goes along with a query: facts about it, who asks, what should be different from the mesh's own settings, and how long
 * it may take. Immutable; what is not said is left to the mesh, and the deadline to the client. What is said in a whole message
 * is not said in words as well: that throws {@link IllegalArgumentException}.
 *
 * <pre>{@code
 * var options = AskOptions.builder().attribute("audience", "patient").topK(2).deadline(Duration.ofSeconds(2)).build();
 * }</pre>
 */
public final class AskOptions {
  private static final AskOptions DEFAULTS = builder().build();

  private final DispatchRequest template;
  private final Terms terms;

  private AskOptions(Builder builder) {
    template = builder.request();
    terms = builder.terms.copy();
  }

  /** Nothing said. */
  public static AskOptions defaults() {
    return DEFAULTS;
  }

  /** The way to everything else. */
  public static Builder builder() {
    return new Builder();
  }

  /**
   * @throws IllegalArgumentException where the query says an attribute or a label that is said here
   */
  DispatchRequest request(Query query) {
    Query here = template.getQuery();
    once("attribute", here.getAttributesMap().keySet(), query.getAttributesMap().keySet());
    once("label", here.getLabelsMap().keySet(), query.getLabelsMap().keySet());
    return template.toBuilder().mergeQuery(query).build();
  }

  Terms terms() {
    return terms;
  }

  private static void once(String what, Set<String> here, Set<String> there) {
    Set<String> twice = new TreeSet<>(here);
    twice.retainAll(there);
    if (!twice.isEmpty()) {
      throw new IllegalArgumentException(what + " said twice, in a message and in words: " + String.join(", ", twice));
    }
  }

  /** Says things one by one. */
  public static final class Builder {
    private final DispatchRequest.Builder words = DispatchRequest.newBuilder();
    private final DispatchRequest.Builder messages = DispatchRequest.newBuilder();
    private final Terms terms = new Terms();

    private Builder() {}

    /** A declared dimension of the mesh, for example {@code audience}, with one or more values. */
    public Builder attribute(String name, String... values) {
      Values.Builder all = Values.newBuilder().addAllValues(List.of(values));
      words.getQueryBuilder().putAttributes(name, all.build());
      return this;
    }

    /** A free-form fact about the query. Only rules read it. */
    public Builder label(String name, String value) {
      words.getQueryBuilder().putLabels(name, value);
      return this;
    }

    /** At most so many experts, 1 to 16. */
    public Builder topK(int experts) {
      words.getOptionsBuilder().setTopK(experts);
      return this;
    }

    /** The least probability at which an expert is chosen, 0 to 1. */
    public Builder minConfidence(double probability) {
      words.getOptionsBuilder().setMinConfidence(probability);
      return this;
    }

    /** Only these experts, by name. */
    public Builder experts(String... names) {
      words.getOptionsBuilder().clearExperts().addAllExperts(List.of(names));
      return this;
    }

    /** Which version of an expert to use. */
    public Builder version(String expert, String version) {
      words.getOptionsBuilder().putVersions(expert, version);
      return this;
    }

    /** How several experts' answers become one. */
    public Builder combine(Combine combine) {
      words.getOptionsBuilder().setCombine(combine);
      return this;
    }

    /** Under pressure the lower ones give way first. */
    public Builder priority(Priority priority) {
      words.getOptionsBuilder().setPriority(priority);
      return this;
    }

    /** The request's id, where the caller has one; the router makes one otherwise. */
    public Builder requestId(String id) {
      words.getContextBuilder().setRequestId(id);
      return this;
    }

    /** For whom the mesh works. */
    public Builder tenant(String tenant) {
      words.getContextBuilder().setTenant(tenant);
      return this;
    }

    /** The tenant's tier. */
    public Builder tier(String tier) {
      words.getContextBuilder().setTier(tier);
      return this;
    }

    /** On whose behalf: a user's or a system's identity. */
    public Builder subject(String subject) {
      words.getContextBuilder().setSubject(subject);
      return this;
    }

    /** Purpose of use, for example {@code treatment} or {@code research}. */
    public Builder purpose(String purpose) {
      words.getContextBuilder().setPurpose(purpose);
      return this;
    }

    /** Everything that the message says about the caller. */
    public Builder context(CallContext context) {
      messages.setContext(context);
      return this;
    }

    /** Everything that the message says about the dispatch. */
    public Builder options(DispatchOptions options) {
      messages.setOptions(options);
      return this;
    }

    /** How long the call may take: more than nothing. */
    public Builder deadline(Duration deadline) {
      terms.deadline(deadline);
      return this;
    }

    /**
     * What else goes along with the call, for example what a proxy before the mesh wants to know. A name may be said more than
     * once. Trace context that the client sends itself takes the place of what is said here.
     *
     * @param value printable ASCII
     */
    public Builder metadata(String name, String value) {
      terms.metadata(name, value);
      return this;
    }

    /**
     * The options as they are now; the builder may go on.
     *
     * @throws IllegalArgumentException where a message and a word say the same
     */
    public AskOptions build() {
      return new AskOptions(this);
    }

    private DispatchRequest request() {
      once("context", names(words.getContext()), names(messages.getContext()));
      once("options", names(words.getOptions()), names(messages.getOptions()));
      return words.build().toBuilder().mergeFrom(messages.build()).build();
    }

    private static Set<String> names(Message message) {
      return message.getAllFields().keySet().stream().map(FieldDescriptor::getName).collect(Collectors.toSet());
    }
  }
}
