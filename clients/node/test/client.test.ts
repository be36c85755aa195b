/** What arrives at a server, what comes back, and what becomes of calls that fail, end or are left. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { after, before, describe, it, type TestContext } from "node:test";

import { create, toJson } from "@bufbuild/protobuf";
import {
  type AskOptions,
  Client,
  type ClientOptions,
  Code,
  Combine,
  ConsiliumError,
  Decision_Outcome,
  type DispatchRequest,
  DispatchRequestSchema,
  DispatchResponseSchema,
  ExplainResponseSchema,
  Priority,
  QuerySchema,
  type Question,
  type SendFeedbackRequest,
  SendFeedbackRequestSchema,
  SendFeedbackResponseSchema,
  StreamDispatchResponseSchema,
  VERSION,
} from "@consilium/client";
import { Metadata } from "@grpc/grpc-js";
import {
  context,
  createTraceState,
  propagation,
  ROOT_CONTEXT,
  type TextMapPropagator,
  trace,
} from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { W3CBaggagePropagator } from "@opentelemetry/core";

import { message, type Script, ScriptedRouter, withDetails } from "./scripted.js";

const QUERY = "Can my patient take ibuprofen with warfarin?";
const HOUR = 3_600_000;
const REPLY = create(DispatchResponseSchema, {
  requestId: "r-1",
  decision: { outcome: Decision_Outcome.DISPATCHED },
  answer: { body: { case: "text", value: { text: "Better not." } } },
  feedbackToken: "token-1",
});
const ANSWERS: Script = {
  dispatch: () => REPLY,
  explain: () => create(ExplainResponseSchema, { requestId: "r-2" }),
  sendFeedback: () => create(SendFeedbackResponseSchema),
  streamDispatch: (call) => {
    call.write(event({ case: "decision", value: { outcome: Decision_Outcome.DISPATCHED } }));
    call.write(event({ case: "delta", value: { leg: 0, text: "Better " } }));
    call.write(event({ case: "delta", value: { leg: 0, text: "not." } }));
    call.write(event({ case: "done", value: { requestId: "r-3", feedbackToken: "token-3" } }));
    call.end();
  },
};

function event(value: NonNullable<Parameters<typeof create<typeof StreamDispatchResponseSchema>>[1]>["event"]) {
  return create(StreamDispatchResponseSchema, value ? { event: value } : {});
}

/** A server with this script and a client of it that has time, gone when the test is. */
async function meet(test: TestContext, script: Script, options?: ClientOptions) {
  const router = await ScriptedRouter.start(script);
  const client = new Client(router.target, { timeoutMs: HOUR, ...options });
  test.after(() => {
    client.close();
    router.stop();
  });
  return { router, client };
}

async function failure(call: Promise<unknown>): Promise<ConsiliumError> {
  const error = await call.then(
    () => assert.fail("the call did not fail"),
    (error: unknown) => error,
  );
  assert.ok(error instanceof ConsiliumError, String(error));
  return error;
}

async function collect<T>(events: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const event of events) all.push(event);
  return all;
}

describe("what is asked", () => {
  it("travels whole, and the reply is the contract's own message", async (test) => {
    const { router, client } = await meet(test, ANSWERS);
    const reply = await client.ask(QUERY, {
      attributes: { audience: "clinician", jurisdiction: ["DE", "AT"] },
      labels: { desk: "discharge" },
      topK: 2,
      minConfidence: 0,
      experts: ["general"],
      versions: { general: "1" },
      combine: Combine.ALL,
      priority: Priority.BATCH,
      requestId: "mine",
      tenant: "ward-3",
      tier: "gold",
      subject: "practitioner-7",
      purpose: "treatment",
    });
    assert.deepEqual(reply, REPLY);
    assert.deepEqual(toJson(DispatchRequestSchema, router.seen[0]?.request as DispatchRequest), {
      query: {
        text: QUERY,
        attributes: { audience: { values: ["clinician"] }, jurisdiction: { values: ["DE", "AT"] } },
        labels: { desk: "discharge" },
      },
      context: { requestId: "mine", tenant: "ward-3", tier: "gold", subject: "practitioner-7", purpose: "treatment" },
      options: {
        topK: 2,
        minConfidence: 0,
        experts: ["general"],
        versions: { general: "1" },
        combine: "COMBINE_ALL",
        priority: "PRIORITY_BATCH",
      },
    });
  });

  it("leaves absent what was not said", async (test) => {
    const { router, client } = await meet(test, ANSWERS);
    await client.ask(QUERY);
    assert.deepEqual(toJson(DispatchRequestSchema, router.seen[0]?.request as DispatchRequest), {
      query: { text: QUERY },
    });
  });

  it("may be a whole query", async (test) => {
    const { router, client } = await meet(test, ANSWERS);
    const query = { text: QUERY, parts: [{ content: { case: "text" as const, value: "INR 2.4" } }] };
    await client.ask(query);
    await client.ask(create(QuerySchema, query));
    for (const { request } of router.seen) {
      assert.deepEqual((request as DispatchRequest).query, create(QuerySchema, query));
    }
    assert.equal(router.seen.length, 2);
  });

  it("is refused before it is sent when it cannot be said, without repeating it", async (test) => {
    const { router, client } = await meet(test, ANSWERS);
    const wrong: [Question, AskOptions][] = [
      [{ text: QUERY }, { attributes: { audience: "clinician" } }],
      [QUERY, { topK: -1 }],
      [QUERY, { topK: QUERY as unknown as number }],
    ];
    for (const [question, options] of wrong) {
      const error = await client.ask(question, options).catch((error: unknown) => error);
      assert.ok(error instanceof TypeError, String(error));
      assert.doesNotMatch(error.message, /ibuprofen/);
      assert.throws(() => client.stream(question, options), TypeError);
    }
    for (const authorization of ["Bearer ibuprofen\n", "Bearer ibuprofén", undefined as unknown as string]) {
      const error = await client.ask(QUERY, { metadata: { authorization } }).catch((error: unknown) => error);
      assert.ok(error instanceof TypeError, String(error));
      assert.match(error.message, /metadata\[authorization\]/);
      assert.doesNotMatch(error.message, /ibuprof|Bearer/);
      assert.equal(error.cause, undefined);
    }
    await assert.rejects(client.feedback("token", { rating: {} as number }), TypeError);
    assert.throws(() => new Client("http://127.0.0.1:7600"), TypeError);
    assert.deepEqual(router.seen, []);
  });

  it("may have an answer of more than grpc-js's usual 4 MiB", async (test) => {
    const text = "x".repeat(20 * 1024 * 1024);
    const large = create(DispatchResponseSchema, { answer: { body: { case: "text", value: { text } } } });
    const { client } = await meet(test, { dispatch: () => large });
    const reply = await client.ask(QUERY);
    assert.equal(reply.answer?.body.case === "text" && reply.answer.body.value.text.length, text.length);
  });
});

describe("every call", () => {
  const CALLS: [string, (client: Client, options?: AskOptions) => Promise<unknown>][] = [
    ["dispatch", (client, options) => client.ask(QUERY, options)],
    ["explain", (client, options) => client.explain(QUERY, options)],
    ["streamDispatch", (client, options) => collect(client.stream(QUERY, options))],
    ["sendFeedback", (client, options) => client.feedback("token", { helpful: true }, options)],
  ];

  const SPAN = { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331", traceFlags: 1 };

  before(() => context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable()));
  after(() => context.disable());

  it("takes the trace context along as the client says, else as the program does, else without baggage", async (test) => {
    const own: TextMapPropagator = {
      inject: (_, carrier, setter) => setter.set(carrier, "x-own", "1"),
      extract: (from) => from,
      fields: () => ["x-own"],
    };
    const { router, client } = await meet(test, ANSWERS);
    const { router: ofOwn, client: withOwn } = await meet(test, ANSWERS, { propagator: own });
    const span = trace.setSpanContext(ROOT_CONTEXT, { ...SPAN, traceState: createTraceState("vendor=1") });
    const both = propagation.setBaggage(span, propagation.createBaggage({ ward: { value: "3" } }));
    await context.with(both, () => client.ask(QUERY));
    propagation.setGlobalPropagator(new W3CBaggagePropagator());
    test.after(() => propagation.disable());
    await context.with(both, async () => {
      await client.ask(QUERY);
      await withOwn.ask(QUERY);
    });
    const sent = [...router.seen, ...ofOwn.seen].map(({ metadata }) =>
      ["traceparent", "tracestate", "baggage", "x-own"].map((name) => metadata.get(name)[0]),
    );
    assert.deepEqual(sent, [
      [`00-${SPAN.traceId}-${SPAN.spanId}-01`, "vendor=1", undefined, undefined],
      [undefined, undefined, "ward=3", undefined],
      [undefined, undefined, undefined, "1"],
    ]);
  });

  for (const [method, call] of CALLS) {
    it(`has a deadline, the trace context and the caller's metadata: ${method}`, async (test) => {
      const { router, client } = await meet(test, ANSWERS, { timeoutMs: 60_000 });
      await context.with(trace.setSpanContext(ROOT_CONTEXT, SPAN), () =>
        call(client, { metadata: { authorization: "Bearer x" } }),
      );
      await call(client, { timeoutMs: 120_000 });
      const [first, second] = router.seen;
      assert.ok(first && second);
      assert.equal(first.method, method);
      assert.ok(first.left > 0 && first.left <= 60_000, `${first.left} ms left`);
      assert.ok(second.left > 60_000 && second.left <= 120_000, `${second.left} ms left`);
      assert.deepEqual(first.metadata.get("traceparent"), [`00-${SPAN.traceId}-${SPAN.spanId}-01`]);
      assert.deepEqual(second.metadata.get("traceparent"), []);
      assert.deepEqual(first.metadata.get("authorization"), ["Bearer x"]);
      assert.match(String(first.metadata.get("user-agent")[0]), new RegExp(`^consilium-node/${VERSION} grpc-node-js/`));
    });

    it(`cannot be made without a deadline: ${method}`, async (test) => {
      const router = await ScriptedRouter.start(ANSWERS);
      const client = new Client(router.target);
      test.after(() => {
        client.close();
        router.stop();
      });
      for (const timeoutMs of [0, -1, Number.NaN, Infinity, 2 ** 31, null as unknown as number]) {
        // What `stream` throws at once becomes a rejection here.
        await assert.rejects(async () => call(client, { timeoutMs }), RangeError);
        assert.throws(() => new Client(router.target, { timeoutMs }), RangeError);
      }
      assert.equal(router.seen.length, 0);
      await call(client);
      assert.ok((router.seen[0]?.left ?? Infinity) <= 5_000);
    });

    it(`can be aborted: ${method}`, async (test) => {
      const reason = new Error("the user went away");
      const controller = new AbortController();
      const hold = () => new Promise<never>(() => controller.abort(reason));
      const { router, client } = await meet(test, {
        dispatch: hold,
        explain: hold,
        sendFeedback: hold,
        streamDispatch: () => controller.abort(reason),
      });
      for (const seen of [1, 1]) {
        // The second time the signal is aborted before the call.
        const error = await failure(call(client, { signal: controller.signal }));
        assert.equal(error.code, Code.CANCELLED);
        assert.equal(error.cause, reason);
        assert.equal(router.seen.length, seen);
      }
    });
  }

  it("ends at its deadline, and the server learns of it", async (test) => {
    let cancelled: () => void = () => {};
    const noticed = new Promise<void>((resolve) => (cancelled = resolve));
    const { client } = await meet(test, {
      ...ANSWERS,
      dispatch: (call) => {
        call.on("cancelled", cancelled);
        return new Promise(() => {});
      },
    });
    // The connection is there before the time runs, so that it is the call that ends and not the attempt to connect.
    await client.explain(QUERY);
    const error = await failure(client.ask(QUERY, { timeoutMs: 500 }));
    assert.equal(error.code, Code.DEADLINE_EXCEEDED);
    assert.equal(error.retryable, false);
    await noticed;
  });
});

it("a client that is closed lets what runs come to its end, and takes nothing more", async (test) => {
  let arrived: () => void = () => {};
  let answer: () => void = () => {};
  const arrival = new Promise<void>((resolve) => {
    arrived = resolve;
  });
  const { client } = await meet(test, {
    dispatch: () =>
      new Promise((resolve) => {
        answer = () => resolve(REPLY);
        arrived();
      }),
  });
  const running = client.ask(QUERY);
  await arrival;
  client.close();
  assert.equal((await failure(client.ask(QUERY))).code, Code.CANCELLED);
  assert.throws(() => client.stream(QUERY), ConsiliumError);
  answer();
  assert.deepEqual(await running, REPLY);
});

it("a client that is closed before a call has found a router cancels it, and that is not worth another try", async (test) => {
  const { router, client } = await meet(test, ANSWERS);
  const events = client.stream(QUERY);
  const running = client.ask(QUERY);
  client.close();
  for (const error of [await failure(running), await failure(collect(events))]) {
    assert.equal(error.code, Code.CANCELLED);
    assert.equal(error.retryable, false);
  }
  assert.deepEqual(router.seen, []);
});

describe("retries", () => {
  const unavailable = (pushback?: string) => {
    const metadata = new Metadata();
    if (pushback) metadata.set("grpc-retry-pushback-ms", pushback);
    return { code: Code.UNAVAILABLE, details: "not now", metadata };
  };

  it("are made on UNAVAILABLE, three attempts in all", async (test) => {
    const { router, client } = await meet(test, {
      dispatch: () => {
        if (router.seen.length < 3) throw unavailable();
        return REPLY;
      },
    });
    assert.deepEqual(await client.ask(QUERY), REPLY);
    assert.equal(router.seen.length, 3);
  });

  it("are made of a query of 8 MB like of a short one", async (test) => {
    const { router, client } = await meet(test, {
      dispatch: () => {
        if (router.seen.length < 3) throw unavailable("1");
        return REPLY;
      },
    });
    assert.deepEqual(await client.ask("x".repeat(8_000_000)), REPLY);
    assert.equal(router.seen.length, 3);
  });

  it("come to an end", async (test) => {
    const { router, client } = await meet(test, {
      dispatch: () => {
        throw unavailable("1");
      },
    });
    assert.equal((await failure(client.ask(QUERY))).code, Code.UNAVAILABLE);
    assert.equal(router.seen.length, 3);
  });

  it("are made of streams that have not said anything yet", async (test) => {
    const { router, client } = await meet(test, {
      streamDispatch: (call) => {
        if (router.seen.length < 3) call.emit("error", unavailable("1"));
        else ANSWERS.streamDispatch?.(call);
      },
    });
    assert.equal((await collect(client.stream(QUERY))).length, 4);
    assert.equal(router.seen.length, 3);
  });

  for (const [name, failed] of [
    ["of what is wrong with the request", { code: Code.INVALID_ARGUMENT, details: "no" }],
    ["where the server says not to", unavailable("-1")],
  ] as const) {
    it(`are not made ${name}`, async (test) => {
      const { router, client } = await meet(test, {
        dispatch: () => {
          throw failed;
        },
      });
      const error = await failure(client.ask(QUERY));
      assert.equal(error.code, failed.code);
      assert.equal(error.retryable, false);
      assert.equal(router.seen.length, 1);
    });
  }
});

describe("an error", () => {
  const ERROR_INFO = {
    type: "google.rpc.ErrorInfo",
    value: message(
      [1, "QUEUE_FULL"],
      [2, "consilium.dev"],
      [3, message([1, "expert"], [2, "general"])],
      [3, message([1, "limit"], [2, "64"])],
    ),
  };
  const BAD_REQUEST = {
    type: "google.rpc.BadRequest",
    value: message(
      [1, message([1, "options.top_k"], [2, "must be 1 to 16"])],
      [1, message([1, "query.text"], [2, "must not be empty"])],
    ),
  };
  const RETRY_INFO = {
    type: "google.rpc.RetryInfo",
    value: message([1, Uint8Array.of(8, 1, 16, 128, 202, 181, 238, 1)]),
  };

  const fails = (metadata: Metadata, code = Code.RESOURCE_EXHAUSTED): Script => ({
    dispatch: () => {
      throw { code, details: "the queue is full", metadata };
    },
  });

  it("has everything that the server said", async (test) => {
    const metadata = withDetails(ERROR_INFO, BAD_REQUEST, RETRY_INFO, {
      type: "google.rpc.Help",
      value: message([1, "?"]),
    });
    metadata.set("consilium-request-id", "r-9");
    const { client } = await meet(test, fails(metadata));
    const error = await failure(client.ask(QUERY));
    assert.equal(error.code, Code.RESOURCE_EXHAUSTED);
    assert.equal(error.name, "ConsiliumError");
    assert.equal(error.message, "the queue is full");
    assert.equal(error.reason, "QUEUE_FULL");
    assert.deepEqual(error.metadata, { expert: "general", limit: "64" });
    assert.deepEqual(error.violations, [
      { field: "options.top_k", problem: "must be 1 to 16" },
      { field: "query.text", problem: "must not be empty" },
    ]);
    assert.equal(error.retryAfterMs, 1_500);
    assert.equal(error.retryable, true);
    assert.equal(error.requestId, "r-9");
    assert.equal((error.cause as { code: number }).code, Code.RESOURCE_EXHAUSTED);
  });

  it("is not worth another try where the server says not to, whatever its details say", async (test) => {
    for (const [inTrailers, inHeaders] of [["-1"], ["soon"], [undefined, "-1"]]) {
      const metadata = withDetails(RETRY_INFO);
      if (inTrailers) metadata.set("grpc-retry-pushback-ms", inTrailers);
      const { client } = await meet(test, {
        dispatch: (call) => {
          const headers = new Metadata();
          if (inHeaders) headers.set("grpc-retry-pushback-ms", inHeaders);
          call.sendMetadata(headers);
          throw { code: Code.RESOURCE_EXHAUSTED, details: "the queue is full", metadata };
        },
      });
      const error = await failure(client.ask(QUERY));
      assert.equal(error.retryAfterMs, undefined);
      assert.equal(error.retryable, false);
    }
  });

  it("of a Consilium server that is UNAVAILABLE is worth another try only where the server says when", async (test) => {
    for (const [details, retryable] of [
      [[], true],
      [[ERROR_INFO], false],
      [[ERROR_INFO, RETRY_INFO], true],
    ] as const) {
      const { client } = await meet(test, fails(withDetails(...details), Code.UNAVAILABLE));
      assert.equal((await failure(client.ask(QUERY))).retryable, retryable);
    }
  });

  it("may have more metadata than fits in a short reply", async (test) => {
    const metadata = withDetails({
      type: ERROR_INFO.type,
      value: message([1, "X".repeat(40_000)], [2, "consilium.dev"]),
    });
    const { client } = await meet(test, fails(metadata));
    assert.equal((await failure(client.ask(QUERY))).reason?.length, 40_000);
  });

  it("has the request's id from the headers where the trailers have none", async (test) => {
    const { client } = await meet(test, {
      dispatch: (call) => {
        const headers = new Metadata();
        headers.set("consilium-request-id", "r-10");
        call.sendMetadata(headers);
        throw { code: Code.INTERNAL, details: "the model failed" };
      },
    });
    assert.equal((await failure(client.ask(QUERY))).requestId, "r-10");
  });

  it("takes no other domain's reason, and survives details that do not decode", async (test) => {
    const foreign = { type: ERROR_INFO.type, value: message([1, "QUEUE_FULL"], [2, "googleapis.com"]) };
    const broken = { type: BAD_REQUEST.type, value: Uint8Array.of(10, 200) };
    const { client } = await meet(test, fails(withDetails(foreign, broken, RETRY_INFO)));
    const error = await failure(client.ask(QUERY));
    assert.equal(error.reason, undefined);
    assert.deepEqual(error.violations, []);
    assert.equal(error.retryAfterMs, 1_500);
    const garbage = new Metadata();
    garbage.set("grpc-status-details-bin", Buffer.from([10, 200]));
    const { client: other } = await meet(test, fails(garbage));
    assert.equal((await failure(other.ask(QUERY))).message, "the queue is full");
  });

  it("of nobody listening is worth another try", async (test) => {
    const port = await new Promise<number>((resolve) => {
      const server = createServer().listen(0, "127.0.0.1", () => {
        const address = server.address();
        server.close(() => resolve(typeof address === "object" && address ? address.port : 0));
      });
    });
    const client = new Client(`127.0.0.1:${port}`, { timeoutMs: HOUR });
    test.after(() => client.close());
    const error = await failure(client.ask(QUERY));
    assert.equal(error.code, Code.UNAVAILABLE);
    assert.equal(error.reason, undefined);
    assert.equal(error.requestId, undefined);
    assert.equal(error.retryable, true);
  });
});

describe("a stream", () => {
  it("gives the events in order", async (test) => {
    const { client } = await meet(test, ANSWERS);
    const events = await collect(client.stream(QUERY));
    assert.deepEqual(
      events.map(({ event }) => event.case),
      ["decision", "delta", "delta", "done"],
    );
  });

  it("gives what came before the error that ends it", async (test) => {
    const { client } = await meet(test, {
      streamDispatch: (call) => {
        call.write(event({ case: "delta", value: { leg: 0, text: "Better " } }));
        call.emit("error", { code: Code.INTERNAL, details: "the model failed", metadata: withDetails() });
      },
    });
    const texts: unknown[] = [];
    const error = await failure(
      (async () => {
        for await (const { event } of client.stream(QUERY)) texts.push(event.case === "delta" && event.value.text);
      })(),
    );
    assert.deepEqual(texts, ["Better "]);
    assert.equal(error.message, "the model failed");
  });

  it("is cancelled when its loop is left", async (test) => {
    let cancelled: () => void = () => {};
    const noticed = new Promise<void>((resolve) => (cancelled = resolve));
    const { client } = await meet(test, {
      streamDispatch: (call) => {
        call.on("cancelled", cancelled);
        call.write(event({ case: "delta", value: { leg: 0, text: "Better " } }));
      },
    });
    for await (const { event } of client.stream(QUERY)) {
      assert.equal(event.case, "delta");
      break;
    }
    await noticed;
  });
});

describe("feedback", () => {
  it("sends the token back with metrics of every kind", async (test) => {
    const { router, client } = await meet(test, ANSWERS);
    await client.feedback(await client.ask(QUERY), { helpful: false, rating: 4, comment: "clear" });
    const done = (await collect(client.stream(QUERY))).at(-1)?.event;
    assert.ok(done?.case === "done");
    await client.feedback(done.value, { helpful: true });
    await client.feedback("kept", {});
    const sent = router.seen.filter(({ method }) => method === "sendFeedback");
    assert.deepEqual(
      sent.map(({ request }) => toJson(SendFeedbackRequestSchema, request as SendFeedbackRequest)),
      [
        {
          token: "token-1",
          metrics: [
            { name: "helpful", boolean: false },
            { name: "rating", number: 4 },
            { name: "comment", text: "clear" },
          ],
        },
        { token: "token-3", metrics: [{ name: "helpful", boolean: true }] },
        { token: "kept" },
      ],
    );
  });
});

it("the version is the package's", () => {
  const manifest = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
    version: string;
  };
  assert.equal(VERSION, manifest.version);
});
