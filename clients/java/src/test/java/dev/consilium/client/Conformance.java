package dev.consilium.client;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.MessageOrBuilder;
import com.google.protobuf.util.JsonFormat;
import dev.consilium.v1.DispatchRequest;
import dev.consilium.v1.DispatchResponse;
import dev.consilium.v1.Query;
import dev.consilium.v1.SendFeedbackResponse;
import dev.consilium.v1.StreamDispatchResponse;
import dev.consilium.v1.Values;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;

/**
 * Asks a live mesh the cases that every client is asked, and prints what came of each as a line of JSON. Nothing is judged
 * here.
 */
final class Conformance {
  private static final JsonFormat.Printer PRINTER = JsonFormat.printer().omittingInsignificantWhitespace();

  private final ConsiliumClient mesh;

  private Conformance(ConsiliumClient mesh) {
    this.mesh = mesh;
  }

  public static void main(String[] arguments) throws IOException {
    List<String> words = List.of(arguments);
    if (words.size() != 4 || !words.get(0).equals("--target") || !words.get(2).equals("--cases")) {
      System.err.println("usage: Conformance --target HOST:PORT --cases FILE.json");
      System.exit(2);
    }
    var lines = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    try (var mesh = ConsiliumClient.builder(words.get(1)).plaintext().build()) {
      var conformance = new Conformance(mesh);
      conformance.warmUp();
      for (JsonElement given : JsonParser.parseString(Files.readString(Path.of(words.get(3)))).getAsJsonArray()) {
        lines.println(conformance.outcome(given.getAsJsonObject()));
      }
    }
  }

  /** The first call of a process loads the classes, which takes a busy machine seconds. They belong to no case. */
  private void warmUp() {
    try {
      mesh.explain("", AskOptions.builder().deadline(Duration.ofSeconds(10)).build());
    } catch (ConsiliumException refused) {
      System.err.println("warmed up: " + refused.code());
    }
  }

  private JsonObject outcome(JsonObject given) throws InvalidProtocolBufferException {
    var outcome = new JsonObject();
    outcome.add("case", given.get("name"));
    try {
      call(given, outcome);
    } catch (ConsiliumException error) {
      outcome.add("error", error(error));
    }
    return outcome;
  }

  private void call(JsonObject given, JsonObject outcome) throws InvalidProtocolBufferException {
    var builder = DispatchRequest.newBuilder();
    if (given.has("request")) {
      JsonFormat.parser().merge(given.get("request").toString(), builder);
    }
    DispatchRequest request = builder.build();
    Duration deadline = Duration.ofNanos((long) (given.get("deadline_s").getAsDouble() * 1e9));
    AskOptions options = options(request, deadline);
    switch (given.get("call").getAsString()) {
      case "ask" -> outcome.add("reply", json(ask(request.getQuery(), options)));
      case "explain" -> outcome.add("reply", json(explain(request.getQuery(), options)));
      case "stream" -> stream(request.getQuery(), options, outcome);
      case "feedback" -> outcome.add("reply", json(feedback(given, request.getQuery(), options, deadline)));
      default -> throw new IllegalArgumentException("no such call: " + given.get("call"));
    }
  }

  private MessageOrBuilder explain(Query query, AskOptions options) {
    return worded(query) ? mesh.explain(query.getText(), options) : mesh.explain(query, options);
  }

  private DispatchResponse ask(Query query, AskOptions options) {
    return worded(query) ? mesh.ask(query.getText(), options) : mesh.ask(query, options);
  }

  private void stream(Query query, AskOptions options, JsonObject outcome) throws InvalidProtocolBufferException {
    var events = new JsonArray();
    outcome.add("events", events);
    try (AnswerStream stream = worded(query) ? mesh.stream(query.getText(), options) : mesh.stream(query, options)) {
      for (StreamDispatchResponse event : stream) {
        events.add(json(event));
      }
    }
  }

  private SendFeedbackResponse feedback(JsonObject given, Query query, AskOptions options, Duration deadline) {
    String token = given.has("token") ? given.get("token").getAsString() : ask(query, options).getFeedbackToken();
    JsonObject metrics = given.has("metrics") ? given.getAsJsonObject("metrics") : new JsonObject();
    return mesh.feedback(token, metrics(metrics), FeedbackOptions.builder().deadline(deadline).build());
  }

  private static Metrics metrics(JsonObject given) {
    Metrics metrics = Metrics.none();
    for (Map.Entry<String, JsonElement> metric : given.entrySet()) {
      JsonPrimitive value = metric.getValue().getAsJsonPrimitive();
      if (value.isBoolean()) {
        metrics = metrics.and(metric.getKey(), value.getAsBoolean());
      } else if (value.isNumber()) {
        metrics = metrics.and(metric.getKey(), value.getAsDouble());
      } else {
        metrics = metrics.and(metric.getKey(), value.getAsString());
      }
    }
    return metrics;
  }

  /** What the query has beside its text goes into the options where there is a word for it. */
  private static AskOptions options(DispatchRequest request, Duration deadline) {
    var options = AskOptions.builder().deadline(deadline);
    if (request.hasContext()) {
      options.context(request.getContext());
    }
    if (request.hasOptions()) {
      options.options(request.getOptions());
    }
    if (worded(request.getQuery())) {
      request.getQuery().getAttributesMap().forEach((name, all) -> options.attribute(name, values(all)));
      request.getQuery().getLabelsMap().forEach(options::label);
    }
    return options.build();
  }

  private static String[] values(Values all) {
    return all.getValuesList().toArray(String[]::new);
  }

  private static boolean worded(Query query) {
    return query.toBuilder().clearText().clearAttributes().clearLabels().build().equals(Query.getDefaultInstance());
  }

  private static JsonObject error(ConsiliumException error) {
    var json = new JsonObject();
    json.addProperty("code", error.code().name());
    json.addProperty("reason", error.reason());
    json.addProperty("message", error.description());
    json.addProperty("request_id", error.requestId());
    var violations = new JsonArray();
    for (ConsiliumException.Violation violation : error.violations()) {
      var field = new JsonObject();
      field.addProperty("field", violation.field());
      field.addProperty("problem", violation.problem());
      violations.add(field);
    }
    json.add("violations", violations);
    json.addProperty("retry_after_s", error.retryAfter().map(after -> after.toNanos() / 1e9).orElse(null));
    var metadata = new JsonObject();
    error.metadata().forEach(metadata::addProperty);
    json.add("metadata", metadata);
    return json;
  }

  private static JsonElement json(MessageOrBuilder message) throws InvalidProtocolBufferException {
    return JsonParser.parseString(PRINTER.print(message));
  }
}
