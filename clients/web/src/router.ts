/** The router over gRPC-Web: the calls of the page, and what becomes of those that fail. */

import { create } from "@bufbuild/protobuf";
import { type CallOptions, type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

import { forbidsRetry, readDetails, type Violation } from "./client/details.js";
import { DoneSchema, RouterService, type StreamDispatchResponse } from "./client/gen/consilium/v1/router_pb.js";
import { codeName } from "./words.js";

/** What is asked, and how. */
export interface Question {
  text: string;
  audience: string | undefined;
  minConfidence: number | undefined;
  topK: number | undefined;
  stream: boolean;
  timeoutMs: number;
}

/** What goes on, in the order of a stream; a reply that came in one piece is taken apart into the same. */
export type Event = StreamDispatchResponse["event"];

/** What went wrong, as the page shows it. */
export interface Problem {
  /** As in the contract, for example `INVALID_ARGUMENT`; `UNREACHABLE` and `PAGE_FAILED` are the page's own. */
  code: string;
  /** One of the words in docs/errors.md; undefined when no Consilium server said why. */
  reason: string | undefined;
  message: string;
  violations: readonly Violation[];
  retryAfterMs: number | undefined;
  requestId: string | undefined;
  /** The user stopped it. */
  stopped: boolean;
}

/** What the calls of a {@link Router} throw, and nothing else. */
export class CallFailed extends Error {
  constructor(readonly problem: Problem) {
    super(problem.message);
  }
}

/** What anything thrown is to the user: a call that failed, or a mistake of this page, which is told to the console too. */
export function problemOf(thrown: unknown): Problem {
  if (thrown instanceof CallFailed) return thrown.problem;
  reportError(thrown);
  return {
    code: "PAGE_FAILED",
    reason: undefined,
    message: String(thrown),
    violations: [],
    retryAfterMs: undefined,
    requestId: undefined,
    stopped: false,
  };
}

export class Router {
  readonly #client: Client<typeof RouterService>;

  /** @param address a URL, for example `http://127.0.0.1:7600` */
  constructor(readonly address: string) {
    this.#client = createClient(RouterService, createGrpcWebTransport({ baseUrl: address }));
  }

  /** @throws CallFailed */
  async *ask(question: Question, signal: AbortSignal): AsyncGenerator<Event> {
    const { text, audience, minConfidence, topK, timeoutMs } = question;
    const attributes: Record<string, { values: string[] }> = audience ? { audience: { values: [audience] } } : {};
    const request = { query: { text, attributes }, options: { minConfidence, topK } };
    const options: CallOptions = { signal, timeoutMs };
    try {
      if (question.stream) {
        for await (const { event } of this.#client.streamDispatch(request, options)) yield event;
        return;
      }
      const reply = await this.#client.dispatch(request, options);
      if (reply.decision) yield { case: "decision", value: reply.decision };
      for (const value of reply.replies) yield { case: "reply", value };
      const { requestId, answer, partial, feedbackToken } = reply;
      yield { case: "done", value: create(DoneSchema, { requestId, answer, partial, feedbackToken }) };
    } catch (error) {
      throw new CallFailed(problem(error, signal));
    }
  }

  /** @throws CallFailed */
  async feedback(token: string, helpful: boolean): Promise<void> {
    const metrics = [{ name: "helpful", value: { case: "boolean" as const, value: helpful } }];
    try {
      await this.#client.sendFeedback({ token, metrics }, { timeoutMs: 5_000 });
    } catch (error) {
      throw new CallFailed(problem(error));
    }
  }
}

function problem(thrown: unknown, signal?: AbortSignal): Problem {
  const error = ConnectError.from(thrown);
  const { reason, violations, retryAfterMs } = readDetails(error.details.filter((detail) => "type" in detail));
  const pushback = error.metadata.get("grpc-retry-pushback-ms");
  // A browser says no more of an address that does not answer, or does not answer this page, than that the fetch failed.
  const unreachable = error.code === Code.Unknown && error.cause instanceof TypeError;
  return {
    code: unreachable ? "UNREACHABLE" : codeName(error.code),
    reason,
    message: unreachable ? "nothing answers there, or it does not take calls of this page" : error.rawMessage,
    violations,
    retryAfterMs: pushback !== null && forbidsRetry(pushback) ? undefined : retryAfterMs,
    requestId: error.metadata.get("consilium-request-id") ?? undefined,
    stopped: signal?.aborted ?? false,
  };
}
