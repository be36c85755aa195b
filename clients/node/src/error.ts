/** The one error of this package, and how a failed call becomes it. */

import { status as Code, type Metadata, type ServiceError } from "@grpc/grpc-js";

import { type Details, readDetails, statusDetails, type Violation } from "./details.js";

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

  /** @internal */
  constructor(
    code: Code,
    message: string,
    options: Partial<Details> & { requestId?: string | undefined; cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause });
    this.code = code;
    this.reason = options.reason;
    this.metadata = options.metadata ?? {};
    this.requestId = options.requestId;
    this.violations = options.violations ?? [];
    this.retryAfterMs = options.retryAfterMs;
  }

  /**
   * Whether the same request may go better later or elsewhere: the server says so, or none was reached. The retries of the
   * service config are over by then.
   */
  get retryable(): boolean {
    return this.retryAfterMs !== undefined || this.code === Code.UNAVAILABLE;
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
  const requestId = requestIdOf(error.metadata) ?? requestIdOf(headers);
  return new ConsiliumError(error.code, error.details, { ...details, requestId, cause: error });
}

/** What a call ends with whose signal was aborted. */
export function aborted(signal: AbortSignal): ConsiliumError {
  return new ConsiliumError(Code.CANCELLED, "the call was aborted by its signal", { cause: signal.reason });
}

function requestIdOf(metadata: Metadata | undefined): string | undefined {
  return metadata?.get("consilium-request-id").at(-1)?.toString();
}
