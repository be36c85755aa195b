package dev.consilium.client;

import com.google.common.util.concurrent.FutureCallback;
import com.google.common.util.concurrent.Futures;
import com.google.common.util.concurrent.ListenableFuture;
import io.grpc.StatusRuntimeException;
import java.util.concurrent.CompletableFuture;

/** From gRPC's futures to Java's. */
final class Completion {
  private Completion() {}

  static <T> CompletableFuture<T> of(ListenableFuture<T> call) {
    CompletableFuture<T> reply = new CompletableFuture<>();
    Futures.addCallback(call, completing(reply), Runnable::run);
    reply.whenComplete(
        (value, failure) -> {
          if (reply.isCancelled()) {
            call.cancel(true);
          }
        });
    return reply;
  }

  private static <T> FutureCallback<T> completing(CompletableFuture<T> reply) {
    return new FutureCallback<>() {
      @Override
      public void onSuccess(T value) {
        reply.complete(value);
      }

      @Override
      public void onFailure(Throwable failure) {
        boolean status = failure instanceof StatusRuntimeException;
        reply.completeExceptionally(status ? new ConsiliumException((StatusRuntimeException) failure) : failure);
      }
    };
  }
}
