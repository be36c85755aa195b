package dev.consilium.client;

import java.util.regex.Pattern;

/** Which targets do not leave this machine. A target that cannot be told is one that does. */
final class Loopback {
  private static final Pattern TARGET =
      Pattern.compile(
          "unix(-abstract)?:.+|(dns:(///)?|ipv[46]:)?(localhost|127(\\.\\d{1,3}){3}|\\[::1])(:\\d+)?",
          Pattern.CASE_INSENSITIVE);

  private Loopback() {}

  static boolean is(String target) {
    return TARGET.matcher(target).matches();
  }
}
