/** Where a client may call in plaintext, and by which way. */

import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";
import { Client, DispatchResponseSchema } from "@consilium/client";
import { credentials } from "@grpc/grpc-js";

import { ScriptedRouter } from "./scripted.js";

const HERE = [
  "127.0.0.1:7600",
  "127.8.9.10",
  "localhost:7600",
  "LocalHost",
  "[::1]:7600",
  "::1",
  "dns:localhost:7600",
  "dns:///localhost:7600",
  "dns:///127.0.0.1:7600",
  "ipv4:127.0.0.1:7600,127.0.0.2:7600",
  "ipv6:[::1]:7600",
  "unix:/run/consilium.sock",
  "unix:///run/consilium.sock",
];
const ELSEWHERE = [
  "routers.example:7600",
  "10.0.0.1:7600",
  "127.routers.example:7600",
  "localhost.example:7600",
  "[::2]:7600",
  "[2001:db8::1]:7600",
  "dns:///routers.example:7600",
  "dns://127.0.0.1/routers.example:7600",
  "dns://10.0.0.1/localhost:7600",
  "ipv4:127.0.0.1:7600,10.0.0.1:7600",
  "ipv6:[2001:db8::1]:7600",
];

describe("plaintext", () => {
  it("needs no word where nothing leaves the machine", () => {
    for (const target of HERE) assert.doesNotThrow(() => new Client(target).close(), target);
  });

  it("is refused to other machines unless it is asked for", () => {
    for (const target of ELSEWHERE) {
      assert.throws(() => new Client(target), { name: "TypeError", message: /credentials.*plaintext: true/ }, target);
      assert.throws(() => new Client(target, { plaintext: false }), TypeError, target);
      assert.doesNotThrow(() => new Client(target, { plaintext: true }).close(), target);
      assert.doesNotThrow(() => new Client(target, { credentials: credentials.createSsl() }).close(), target);
    }
  });

  it("is not both asked for and replaced", () => {
    const both = { plaintext: true, credentials: credentials.createSsl() };
    assert.throws(() => new Client("routers.example:7600", both), TypeError);
  });
});

it("a router on this machine is called directly, whatever proxy the environment names", async (test) => {
  const reply = create(DispatchResponseSchema, { requestId: "r-1" });
  const router = await ScriptedRouter.start({ dispatch: () => reply });
  const environment = process.env;
  // Port 9 is the one that discards what it is sent; nothing listens there.
  process.env = { ...environment, grpc_proxy: "http://127.0.0.1:9" };
  const client = new Client(router.target, { timeoutMs: 3_600_000 });
  test.after(() => {
    process.env = environment;
    client.close();
    router.stop();
  });
  assert.deepEqual(await client.ask("?"), reply);
});
