/** The one error of this package, and how a failed call becomes it. */

import { status as Code, type Metadata, type ServiceError } from "@grpc/grpc-js";

import { type Details, forbidsRetry, readDetails, statusDetails, type Violation } from "./details.js";

export { Code, type Violation };

/**
 * A call that failed. A refusal is none: a mesh in which nobody knows the subject says so in a reply.
 *
 * The text never contains the query. `cause` is grpc-js's own error, or the reason of the signal that aborted the call.
 */
export class ConsiliumError extends Error {
  override readonly name = "ConsiliumError";
  /** The gRPC status code; `Code[error.code]` is its name. */
  readonly code: Code;
  /** Machine-readable, one of the words in docs/errors.md; undefined when no Consilium server said why. */
  readonly reason: string | undefined;
  /** The facts that belong to the reason, for example `expert`. */
  readonly metadata: Readonly<Record<string, string>>;
  /** The request's id, for whoever runs the mesh; undefined when no router saw the request. */
  readonly requestId: string | undefined;
  /** Every field of the request that is wrong. */
  readonly violations: readonly Violation[];
  /** The server calls it worth another try after so many milliseconds; undefined: it does not. */
  readonly retryAfterMs: number | undefined;
  /**
   * Whether the same request may go better later or elsewhere: the server says so, or no Consilium server was reached. The
   * retries of the service config are over by then.
   */
  readonly retryable: boolean;

  /** @internal */
  constructor(
    code: Code,
    message: string,
    options: Partial<Details> & { requestId?: string | undefined; retryable?: boolean; cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause });
    this.code = code;
    this.reason = options.reason;
    this.metadata = options.metadata ?? {};
    this.requestId = options.requestId;
    this.violations = options.violations ?? [];
    this.retryAfterMs = options.retryAfterMs;
    this.retryable = options.retryable ?? false;
  }
}

/** What grpc-js reports, with what the server said in its details. `headers` are those of the reply, if any came. */
export function fromGrpc(
  error: ServiceError,
  headers: Metadata | undefined,
  signal: AbortSignal | undefined,
): ConsiliumError {
  if (error.code === Code.CANCELLED && signal?.aborted) return aborted(signal);
  const status = error.metadata?.get("grpc-status-details-bin").at(-1);
  const details = readDetails(status instanceof Uint8Array ? statusDetails(status) : []);
  const requestId = last(error.metadata, "consilium-request-id") ?? last(headers, "consilium-request-id");
  const pushback = last(error.metadata, "grpc-retry-pushback-ms") ?? last(headers, "grpc-retry-pushback-ms");
  const mayRetry = pushback === undefined || !forbidsRetry(pushback);
  const retryAfterMs = mayRetry ? details.retryAfterMs : undefined;
  const unreached = error.code === Code.UNAVAILABLE && details.reason === undefined;
  return new ConsiliumError(error.code, error.details, {
    ...details,
    requestId,
    retryAfterMs,
    retryable: mayRetry && (retryAfterMs !== undefined || unreached),
    cause: error,
  });
}

/** What a call ends with whose signal was aborted. */
export function aborted(signal: AbortSignal): ConsiliumError {
  return new ConsiliumError(Code.CANCELLED, "the call was aborted by its signal", { cause: signal.reason });
}

/** What a call ends with whose client was closed before a router had it. */
export function closed(cause?: ServiceError): ConsiliumError {
  return new ConsiliumError(Code.CANCELLED, "the client is closed", { cause });
}

function last(metadata: Metadata | undefined, name: string): string | undefined {
  return metadata?.get(name).at(-1)?.toString();
}
