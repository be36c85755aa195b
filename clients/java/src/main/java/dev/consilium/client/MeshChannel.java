package dev.consilium.client;

import com.google.gson.Gson;
import com.google.gson.reflect.TypeToken;
import io.grpc.ChannelCredentials;
import io.grpc.ClientInterceptor;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/** How a mesh is connected to. */
final class MeshChannel {
  static final String USER_AGENT = "consilium-java/0.1.0";

  private static final int KIB = 1024;
  private static final int MIB = 1024 * KIB;

  private MeshChannel() {}

  /**
   * @param settings what the caller wants to be different, on top of everything here
   */
  static ManagedChannel open(
      String target,
      ChannelCredentials credentials,
      Consumer<? super ManagedChannelBuilder<?>> settings,
      ClientInterceptor... interceptors) {
    ManagedChannelBuilder<?> channel = Grpc.newChannelBuilder(target, credentials);
    channel
        .userAgent(USER_AGENT)
        .defaultServiceConfig(serviceConfig())
        // The mesh publishes its service config; who writes a name's TXT records has no say.
        .disableServiceConfigLookUp()
        .enableRetry()
        // A request is kept for its retries up to this size; gRPC's own limit is 1 MiB, a router takes 8 MiB.
        .perRpcBufferLimit(9 * MIB)
        // A reply may hold the answers of several experts, 8 MiB each.
        .maxInboundMessageSize(32 * MIB)
        // The details of an error name every wrong field. gRPC's own limit is 8 KiB.
        .maxInboundMetadataSize(64 * KIB)
        // A path that swallows packets looks like a slow server. Without pings it would do so for many minutes.
        .keepAliveTime(20, TimeUnit.SECONDS)
        .keepAliveTimeout(5, TimeUnit.SECONDS)
        .intercept(interceptors);
    settings.accept(channel);
    return channel.build();
  }

  /** The published service config, which is part of this package. */
  static Map<String, ?> serviceConfig() {
    try (InputStream json = MeshChannel.class.getResourceAsStream("service_config.json");
        InputStreamReader text = new InputStreamReader(json, StandardCharsets.UTF_8)) {
      return new Gson().fromJson(text, new TypeToken<Map<String, Object>>() {});
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
