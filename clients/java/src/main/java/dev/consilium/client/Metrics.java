package dev.consilium.client;

import dev.consilium.v1.SendFeedbackRequest;
import dev.consilium.v1.SendFeedbackRequest.Metric;

/**
 * How good an answer was, in the metrics that the mesh declares. Immutable.
 *
 * <pre>{@code
 * mesh.feedback(reply, Metrics.of("helpful", true).and("rating", 4).and("comment", "Clear."));
 * }</pre>
 */
public final class Metrics {
  private final SendFeedbackRequest metrics;

  private Metrics(SendFeedbackRequest metrics) {
    this.metrics = metrics;
  }

  /** A yes or no. */
  public static Metrics of(String name, boolean value) {
    return none().and(name, value);
  }

  /** A number. */
  public static Metrics of(String name, double value) {
    return none().and(name, value);
  }

  /** A text. */
  public static Metrics of(String name, String value) {
    return none().and(name, value);
  }

  /** Nothing yet; a mesh takes feedback with at least one metric. */
  public static Metrics none() {
    return new Metrics(SendFeedbackRequest.getDefaultInstance());
  }

  /** These, and a yes or no. */
  public Metrics and(String name, boolean value) {
    return and(Metric.newBuilder().setName(name).setBoolean(value));
  }

  /** These, and a number. */
  public Metrics and(String name, double value) {
    return and(Metric.newBuilder().setName(name).setNumber(value));
  }

  /** These, and a text. */
  public Metrics and(String name, String value) {
    return and(Metric.newBuilder().setName(name).setText(value));
  }

  SendFeedbackRequest request(String token) {
    return metrics.toBuilder().setToken(token).build();
  }

  private Metrics and(Metric.Builder metric) {
    return new Metrics(metrics.toBuilder().addMetrics(metric).build());
  }
}
