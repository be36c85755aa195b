package dev.consilium.client;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.ForwardingClientCall.SimpleForwardingClientCall;
import io.grpc.ForwardingClientCallListener.SimpleForwardingClientCallListener;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.opentelemetry.context.Context;
import io.opentelemetry.context.propagation.TextMapPropagator;
import java.util.List;
import java.util.function.Supplier;

/** What goes along with every call, and what comes back with it: the trace context, the request's id. */
final class CallMetadata implements ClientInterceptor {
  static final Metadata.Key<String> REQUEST_ID = key("consilium-request-id");
  static final Metadata.Key<String> PUSHBACK = key("grpc-retry-pushback-ms");

  private static final List<Metadata.Key<String>> KEPT = List.of(REQUEST_ID, PUSHBACK);

  private final Supplier<TextMapPropagator> propagator;

  CallMetadata(Supplier<TextMapPropagator> propagator) {
    this.propagator = propagator;
  }

  @Override
  public <Q, R> ClientCall<Q, R> interceptCall(MethodDescriptor<Q, R> method, CallOptions options, Channel next) {
    return new SimpleForwardingClientCall<>(next.newCall(method, options)) {
      @Override
      public void start(Listener<R> listener, Metadata headers) {
        propagator.get().inject(Context.current(), headers, CallMetadata::set);
        super.start(new Remembering<>(listener), headers);
      }
    };
  }

  /** An error knows the trailers only, and a call that failed after it began has its id in the headers. */
  private static final class Remembering<R> extends SimpleForwardingClientCallListener<R> {
    private Metadata headers = new Metadata();

    private Remembering(ClientCall.Listener<R> listener) {
      super(listener);
    }

    @Override
    public void onHeaders(Metadata headers) {
      this.headers = headers;
      super.onHeaders(headers);
    }

    @Override
    public void onClose(Status status, Metadata trailers) {
      for (Metadata.Key<String> key : KEPT) {
        if (headers.containsKey(key) && !trailers.containsKey(key)) {
          trailers.put(key, headers.get(key));
        }
      }
      super.onClose(status, trailers);
    }
  }

  private static void set(Metadata headers, String name, String value) {
    Metadata.Key<String> key = key(name);
    headers.discardAll(key);
    headers.put(key, value);
  }

  private static Metadata.Key<String> key(String name) {
    return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
  }
}
