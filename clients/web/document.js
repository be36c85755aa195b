/** The page's document for one router: its address, and the policy that lets the page call that and nothing else. */

import { readFile } from "node:fs/promises";

/** The router that the page asks unless CONSILIUM_ROUTER names another: that of a mesh on this machine. */
export const LOCAL_ROUTER = "http://127.0.0.1:7600";

/**
 * The document, and its policy for a server to send as a header too.
 *
 * @param address scheme, host and port of the router
 * @throws TypeError when it is anything else
 */
export async function documentFor(address) {
  const router = origin(address);
  const policy = [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src data:",
    `connect-src ${router}`,
    "base-uri 'none'",
    "form-action 'none'",
  ].join("; ");
  const template = await readFile(new URL("src/index.html", import.meta.url), "utf8");
  return { html: template.replace("{{policy}}", policy).replace("{{router}}", router), policy };
}

// What comes of it stands in markup and in the policy, where quotes and semicolons would mean something, and which has no
// words for an IPv6 address.
function origin(address) {
  const { origin, href } = URL.canParse(address) ? new URL(address) : {};
  if (!origin || href !== `${origin}/` || !/^https?:\/\/[\w.-]+(:\d+)?$/.test(origin)) {
    throw new TypeError("the router is a scheme, a name or IPv4 address, and a port: https://mesh.example");
  }
  return origin;
}
