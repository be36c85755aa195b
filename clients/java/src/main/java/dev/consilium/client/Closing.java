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

/**
 * How calls end that a closed client still has, or still gets. gRPC calls them {@code UNAVAILABLE}, as if a server were gone
 * and another try worth it.
 */
final class Closing implements ClientInterceptor {
  private static final Status CLOSED = Status.CANCELLED.withDescription("the client is closed");

  private volatile boolean closed;

  /** From now on. */
  void begin() {
    closed = true;
  }

  @Override
  public <Q, R> ClientCall<Q, R> interceptCall(MethodDescriptor<Q, R> method, CallOptions options, Channel next) {
    return new SimpleForwardingClientCall<>(next.newCall(method, options)) {
      @Override
      public void start(Listener<R> listener, Metadata headers) {
        super.start(new Ending<>(listener), headers);
      }
    };
  }

  private final class Ending<R> extends SimpleForwardingClientCallListener<R> {
    private Ending(ClientCall.Listener<R> listener) {
      super(listener);
    }

    @Override
    public void onClose(Status status, Metadata trailers) {
      boolean ours = closed && status.getCode() == Status.Code.UNAVAILABLE;
      super.onClose(ours ? CLOSED : status, trailers);
    }
  }
}
