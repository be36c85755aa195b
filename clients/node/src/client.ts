/** The client: one channel to the routers of a mesh, and the four calls. */

import { readFileSync } from "node:fs";

import {
  create,
  type DescMessage,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import {
  Client as Channel,
  type ChannelCredentials,
  type ChannelOptions,
  credentials,
  Metadata,
  type ServiceError,
} from "@grpc/grpc-js";
import type { TextMapPropagator } from "@opentelemetry/api";

import { aborted, Code, type ConsiliumError, closed, fromGrpc } from "./error.js";
import {
  type DispatchResponse,
  type ExplainResponse,
  RouterService,
  type SendFeedbackResponse,
  type StreamDispatchResponse,
} from "./gen/consilium/v1/router_pb.js";
import {
  type AskOptions,
  type CallOptions,
  type ClientOptions,
  dispatch,
  feedback,
  type Metrics,
  type Question,
  timeout,
} from "./options.js";
import { isLoopback } from "./target.js";
import { inject } from "./trace.js";
import { VERSION } from "./version.js";

const CHANNEL_OPTIONS: ChannelOptions = {
  "grpc.primary_user_agent": `consilium-node/${VERSION}`,
  // The published service config: round robin, and the retries. One that DNS might hold does not replace it, and the
  // lookup for it, which in a cluster goes through every search domain, is spared.
  "grpc.service_config": readFileSync(new URL("../src/service_config.json", import.meta.url), "utf8"),
  "grpc.service_config_disable_resolution": 1,
  "grpc.enable_retries": 1,
  // A call is tried again only while its request is kept, and a query may have 8 MiB; grpc-js keeps 1 MiB unless told.
  "grpc.per_rpc_retry_buffer_size": 9 * 1024 * 1024,
  // An answer may hold those of four experts of 8 MiB each.
  "grpc.max_receive_message_length": 32 * 1024 * 1024,
  // Without pings a path that swallows packets is noticed only when the kernel gives up, after many minutes.
  "grpc.keepalive_time_ms": 20_000,
  "grpc.keepalive_timeout_ms": 5_000,
};

/**
 * Asks the routers of a mesh. One client holds one channel and serves any number of calls at a time; make one and keep it.
 *
 * Every call has a deadline, is retried as the service config says, and carries the current trace context of
 * `@opentelemetry/api`. A call that fails rejects with a {@link ConsiliumError}.
 */
export class Client {
  readonly #channel: Channel;
  readonly #timeoutMs: number;
  readonly #propagator: TextMapPropagator | undefined;
  #closed = false;

  /**
   * @param target where the routers are, as gRPC writes it: `127.0.0.1:7600`, or `dns:///routers.example:7600` for all
   *   addresses behind a name. No connection is made before the first call.
   * @throws RangeError when `timeoutMs` is no deadline
   * @throws TypeError when the target is a URL, or on another machine without credentials or `plaintext`
   */
  constructor(target: string, options: ClientOptions = {}) {
    if (/^https?:/.test(target)) throw new TypeError("a gRPC target is host:port, without http:// before it");
    this.#timeoutMs = timeout(options.timeoutMs === undefined ? 5_000 : options.timeoutMs);
    this.#propagator = options.propagator;
    this.#channel = new Channel(target, channelCredentials(target, options), {
      ...CHANNEL_OPTIONS,
      // A proxy out of the environment would carry what is meant for this machine to another one.
      ...(isLoopback(target) && { "grpc.enable_http_proxy": 0 }),
      ...options.channelOptions,
    });
  }

  /**
   * Routes a question, lets the experts answer and returns what they say with the reasons. A mesh in which nobody knows
   * the subject replies too: `decision.outcome` is `REFUSED` and there is no `answer`.
   */
  async ask(question: Question, options: AskOptions = {}): Promise<DispatchResponse> {
    return this.#unary(RouterService.method.dispatch, dispatch(question, options), options);
  }

  /** What {@link Client.ask} would do, without calling anybody. */
  async explain(question: Question, options: AskOptions = {}): Promise<ExplainResponse> {
    return this.#unary(RouterService.method.explain, dispatch(question, options), options);
  }

  /**
   * The same as {@link Client.ask} as it happens: the decision, pieces of text, each expert's reply, and last `done` with
   * the combined answer. The call starts with the first event that is asked for; leaving the loop cancels it.
   *
   * @throws RangeError | TypeError at once, when an option cannot be sent
   */
  stream(question: Question, options: AskOptions = {}): AsyncGenerator<StreamDispatchResponse, void, undefined> {
    return this.#serverStreaming(RouterService.method.streamDispatch, dispatch(question, options), options);
  }

  /**
   * Says how good an answer was, by the metrics that the mesh declares.
   *
   * @param reply the reply itself, the `done` of a stream, or the token of either, kept until now
   */
  async feedback(
    reply: string | { readonly feedbackToken: string },
    metrics: Metrics,
    options: CallOptions = {},
  ): Promise<SendFeedbackResponse> {
    const token = typeof reply === "string" ? reply : reply.feedbackToken;
    return this.#unary(RouterService.method.sendFeedback, feedback(token, metrics), options);
  }

  /**
   * Lets the connections go once the calls that a router has begun have ended. Calls that still look for one, and later
   * calls, are `CANCELLED`.
   */
  close(): void {
    this.#closed = true;
    this.#channel.close();
  }

  #unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions,
  ): Promise<MessageShape<O>> {
    const { bytes, metadata, timeoutMs } = this.#prepare(method.input, request, options);
    const { signal } = options;
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(aborted(signal));
      let headers: Metadata | undefined;
      const call = this.#channel.makeUnaryRequest(
        path(method),
        asIs,
        (reply) => fromBinary(method.output, reply),
        bytes,
        metadata,
        { deadline: Date.now() + timeoutMs },
        (error, reply) => {
          signal?.removeEventListener("abort", cancel);
          if (error) reject(this.#failure(error, headers, signal));
          else resolve(reply as MessageShape<O>);
        },
      );
      const cancel = () => call.cancel();
      signal?.addEventListener("abort", cancel);
      call.on("metadata", (received: Metadata) => (headers = received));
    });
  }

  // Not a generator itself: what is wrong with the options is said before anybody iterates, and the trace context is that
  // of the caller, not that of whoever reads the first event.
  #serverStreaming<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions,
  ): AsyncGenerator<MessageShape<O>, void, undefined> {
    const { bytes, metadata, timeoutMs } = this.#prepare(method.input, request, options);
    const { signal } = options;
    const events = async function* (this: Client) {
      if (this.#closed) throw closed();
      if (signal?.aborted) throw aborted(signal);
      const call = this.#channel.makeServerStreamRequest(
        path(method),
        asIs,
        (event) => fromBinary(method.output, event),
        bytes,
        metadata,
        { deadline: Date.now() + timeoutMs },
      );
      let headers: Metadata | undefined;
      call.on("metadata", (received: Metadata) => (headers = received));
      // The status of a call that was left arrives when nobody iterates any more, and an `error` event without a
      // listener ends the process.
      call.on("error", () => {});
      const cancel = () => call.cancel();
      signal?.addEventListener("abort", cancel);
      try {
        yield* call as AsyncIterable<MessageShape<O>>;
      } catch (error) {
        throw this.#failure(error as ServiceError, headers, signal);
      } finally {
        signal?.removeEventListener("abort", cancel);
        call.cancel();
      }
    };
    return events.call(this);
  }

  #failure(error: ServiceError, headers: Metadata | undefined, signal: AbortSignal | undefined): ConsiliumError {
    const failed = fromGrpc(error, headers, signal);
    // grpc-js calls it UNAVAILABLE, hence worth another try, when the channel is closed before a call has found a router.
    return this.#closed && failed.code === Code.UNAVAILABLE && failed.reason === undefined ? closed(error) : failed;
  }

  #prepare<I extends DescMessage>(schema: I, request: MessageInitShape<I>, options: CallOptions) {
    if (this.#closed) throw closed();
    const metadata = sendable(options.metadata ?? {});
    inject(metadata, this.#propagator);
    return {
      bytes: encode(schema, request),
      metadata,
      timeoutMs: options.timeoutMs === undefined ? this.#timeoutMs : timeout(options.timeoutMs),
    };
  }
}

function channelCredentials(target: string, { credentials: given, plaintext }: ClientOptions): ChannelCredentials {
  if (given && plaintext) throw new TypeError("credentials and plaintext: true exclude each other");
  if (given) return given;
  if (plaintext || isLoopback(target)) return credentials.createInsecure();
  throw new TypeError(
    "questions travel in plaintext only on this machine: give credentials, for example credentials.createSsl(), " +
      "or say plaintext: true",
  );
}

function sendable(values: Readonly<Record<string, string>>): Metadata {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(values)) {
    try {
      metadata.set(name, value.toString());
    } catch {
      // grpc-js's own words quote the value, which may be somebody's token.
      throw new TypeError(`metadata[${name}]: names are of a-z 0-9 _ - . without -bin, values of printable ASCII`);
    }
  }
  return metadata;
}

/** Encodes before the call, because grpc-js would repeat the encoder's words, and these quote the value. */
function encode<I extends DescMessage>(schema: I, request: MessageInitShape<I>): Buffer {
  try {
    return Buffer.from(toBinary(schema, create(schema, request)));
  } catch {
    throw new TypeError(`a field of the request has a value that ${schema.typeName} cannot hold`);
  }
}

function path(method: DescMethodUnary | DescMethodServerStreaming): string {
  return `/${method.parent.typeName}/${method.name}`;
}

function asIs(bytes: Buffer): Buffer {
  return bytes;
}
