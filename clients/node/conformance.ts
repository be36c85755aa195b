/**
 * Runs a list of cases against a mesh with the public API, for the conformance tests:
 *
 *     node build/conformance.js --target 127.0.0.1:7600 --cases FILE.json
 *
 * One line of JSON for each case, in order, on standard output, and nothing else there.
 */

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";

import {
  type DescMessage,
  fromJson,
  type JsonObject,
  type JsonValue,
  type MessageShape,
  toJson,
} from "@bufbuild/protobuf";
import {
  type AskOptions,
  Client,
  Code,
  ConsiliumError,
  DispatchRequestSchema,
  DispatchResponseSchema,
  ExplainResponseSchema,
  type Metrics,
  type Question,
  SendFeedbackResponseSchema,
  StreamDispatchResponseSchema,
} from "@consilium/client";

interface Case {
  name: string;
  call: "ask" | "explain" | "stream" | "feedback";
  deadline_s?: number;
  request?: JsonObject;
  metrics?: Metrics;
  token?: string;
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { target: { type: "string" }, cases: { type: "string" } } });
  if (!values.target || !values.cases) throw new Error("--target HOST:PORT and --cases FILE.json are needed");
  const client = new Client(values.target, { plaintext: true });
  try {
    for (const one of JSON.parse(readFileSync(values.cases, "utf8")) as Case[]) {
      const came = await run(client, one);
      process.stdout.write(`${JSON.stringify({ case: one.name, ...came })}\n`);
    }
  } finally {
    client.close();
  }
}

async function run(client: Client, one: Case): Promise<JsonObject> {
  const timeoutMs = one.deadline_s === undefined ? undefined : one.deadline_s * 1_000;
  const { question, options } = asked(one.request ?? {});
  const all: AskOptions = { ...options, ...(timeoutMs !== undefined && { timeoutMs }) };
  const events: JsonValue[] = [];
  try {
    switch (one.call) {
      case "ask":
        return { reply: json(DispatchResponseSchema, await client.ask(question, all)) };
      case "explain":
        return { reply: json(ExplainResponseSchema, await client.explain(question, all)) };
      case "stream":
        for await (const event of client.stream(question, all)) events.push(json(StreamDispatchResponseSchema, event));
        return { events };
      case "feedback": {
        const token = one.token ?? (await client.ask(question, all));
        const { timeoutMs } = all;
        return {
          reply: json(
            SendFeedbackResponseSchema,
            await client.feedback(token, one.metrics ?? {}, timeoutMs === undefined ? {} : { timeoutMs }),
          ),
        };
      }
    }
  } catch (error) {
    if (!(error instanceof ConsiliumError)) throw error;
    return { ...(one.call === "stream" && { events }), error: failed(error) };
  }
}

/** The keyword form of the API, but for a query that has more than a text, attributes and labels. */
function asked(json: JsonObject): { question: Question; options: AskOptions } {
  const { query, context, options } = fromJson(DispatchRequestSchema, json);
  const settings: AskOptions = Object.fromEntries(
    Object.entries({
      requestId: context?.requestId || undefined,
      tenant: context?.tenant || undefined,
      tier: context?.tier || undefined,
      subject: context?.subject || undefined,
      purpose: context?.purpose || undefined,
      topK: options?.topK,
      minConfidence: options?.minConfidence,
      experts: options?.experts,
      versions: options?.versions,
      combine: options?.combine,
      priority: options?.priority ?? (context?.priority || undefined),
    }).filter(([, value]) => value !== undefined),
  );
  if (!query) return { question: "", options: settings };
  if (query.parts.length > 0 || query.context.length > 0) return { question: query, options: settings };
  const attributes = Object.fromEntries(Object.entries(query.attributes).map(([name, { values }]) => [name, values]));
  return { question: query.text, options: { ...settings, attributes, labels: query.labels } };
}

function failed(error: ConsiliumError): JsonObject {
  return {
    code: Code[error.code] ?? String(error.code),
    reason: error.reason ?? "",
    message: error.message,
    request_id: error.requestId ?? "",
    violations: error.violations.map(({ field, problem }) => ({ field, problem })),
    retry_after_s: error.retryAfterMs === undefined ? null : error.retryAfterMs / 1_000,
    metadata: { ...error.metadata },
  };
}

function json<D extends DescMessage>(schema: D, message: MessageShape<D>): JsonValue {
  return toJson(schema, message) as JsonValue;
}

await main();
