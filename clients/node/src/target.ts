/** Whether a target stays on this machine, which is where plaintext needs no word of the caller's. */

import { isIPv4 } from "node:net";

/** A target as gRPC writes it: `127.0.0.1:7600`, `dns:///localhost:7600`, `ipv6:[::1]:7600`, `unix:/run/consilium.sock`. */
export function isLoopback(target: string): boolean {
  if (/^unix(-abstract)?:/.test(target)) return true;
  const addresses = target.replace(/^(dns:(\/\/\/)?|ipv[46]:)/, "").split(",");
  return addresses.every((address) => isLoopbackHost(hostOf(address).toLowerCase()));
}

function hostOf(address: string): string {
  const bracketed = /^\[([^\]]*)\](:\d+)?$/.exec(address);
  if (bracketed) return bracketed[1] ?? "";
  // More than one colon is IPv6 without brackets and without a port.
  return address.split(":").length > 2 ? address : address.replace(/:\d*$/, "");
}

// Only addresses that are complete: `127.example.com` and `127.1` are names, and names say nothing of where they lead.
function isLoopbackHost(host: string): boolean {
  return host === "localhost" || host === "::1" || (isIPv4(host) && host.startsWith("127."));
}
