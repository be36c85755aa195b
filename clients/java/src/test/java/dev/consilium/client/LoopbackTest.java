package dev.consilium.client;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.ChannelCredentials;
import io.grpc.TlsChannelCredentials;
import java.io.IOException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Where plaintext goes without being asked for. */
class LoopbackTest {
  private static final String ELSEWHERE = "dns:///consilium-router-headless:7600";

  @ParameterizedTest
  @ValueSource(
      strings = {
        "localhost",
        "LocalHost:7600",
        "127.0.0.1:7600",
        "127.8.9.10",
        "[::1]:7600",
        "dns:localhost:7600",
        "dns:///localhost:7600",
        "dns:///127.0.0.1:7600",
        "ipv4:127.0.0.1:7600",
        "ipv6:[::1]:7600",
        "unix:router.sock",
        "unix:///run/router.sock",
        "unix-abstract:router",
      })
  void thisMachineNeedsNoWord(String target) {
    assertTrue(Loopback.is(target));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        ELSEWHERE,
        "router:7600",
        "10.0.0.1:7600",
        "0.0.0.0:7600",
        "[::]:7600",
        "localhost.example:7600",
        "127.0.0.1.example:7600",
        "127.example:7600",
        "localhost:7600@router:7600",
        "ipv4:127.0.0.1:7600,10.0.0.1:7600",
        "dns://10.0.0.1/localhost:7600",
        "xds:///localhost:7600",
        "router/localhost:7600",
        "router:7600\nlocalhost:7600",
      })
  void anotherMachineTakesAWord(String target) {
    assertFalse(Loopback.is(target));
    var error = assertThrows(IllegalArgumentException.class, () -> ConsiliumClient.connect(target));
    assertTrue(error.getMessage().contains("credentials") && error.getMessage().contains("plaintext"));
  }

  @Test
  void eitherWordWillDo() throws IOException {
    ConsiliumClient.builder(ELSEWHERE).plaintext().build().close();
    ConsiliumClient.builder(ELSEWHERE).credentials(TlsChannelCredentials.create()).build().close();
  }

  @Test
  void bothWordsContradictEachOther() throws IOException {
    ChannelCredentials credentials = TlsChannelCredentials.create();
    var client = ConsiliumClient.builder("localhost").plaintext().credentials(credentials);
    assertThrows(IllegalArgumentException.class, client::build);
  }
}
