package dev.consilium.client;

import dev.consilium.v1.StreamDispatchResponse;
import io.grpc.Context;
import io.grpc.StatusRuntimeException;
import java.util.Iterator;
import java.util.function.Supplier;

/**
 * What happens to one query, as it happens. It can be gone through once, by one thread at a time; waiting for the next event
 * may throw {@link ConsiliumException}, and the events before it still hold. Closing it cancels the call if it still runs, from
 * any thread.
 *
 * <pre>{@code
 * try (var events = mesh.stream("What does a raised troponin mean?")) {
 *   for (var event : events) {
 *     System.out.println(event.getEventCase());
 *   }
 * }
 * }</pre>
 */
public final class AnswerStream implements Iterable<StreamDispatchResponse>, AutoCloseable {
  private final Context.CancellableContext context;
  private Iterator<StreamDispatchResponse> events;

  private AnswerStream(Context.CancellableContext context, Iterator<StreamDispatchResponse> events) {
    this.context = context;
    this.events = events;
  }

  /** A call belongs to the context in which it begins, and ends with it. */
  static AnswerStream open(Supplier<Iterator<StreamDispatchResponse>> call) {
    Context.CancellableContext context = Context.current().withCancellation();
    Context before = context.attach();
    try {
      return new AnswerStream(context, new Events(call.get()));
    } finally {
      context.detach(before);
    }
  }

  /**
   * The events, in order. The iterator needs no closing of its own.
   *
   * @throws IllegalStateException the second time: the events are not kept
   */
  @Override
  public Iterator<StreamDispatchResponse> iterator() {
    if (events == null) {
      throw new IllegalStateException("a stream can be gone through once");
    }
    Iterator<StreamDispatchResponse> once = events;
    events = null;
    return once;
  }

  /** Cancels the call if it still runs. */
  @Override
  public void close() {
    context.cancel(null);
  }

  private record Events(Iterator<StreamDispatchResponse> arriving) implements Iterator<StreamDispatchResponse> {
    @Override
    public boolean hasNext() {
      try {
        return arriving.hasNext();
      } catch (StatusRuntimeException e) {
        throw new ConsiliumException(e);
      }
    }

    @Override
    public StreamDispatchResponse next() {
      try {
        return arriving.next();
      } catch (StatusRuntimeException e) {
        throw new ConsiliumException(e);
      }
    }
  }
}
