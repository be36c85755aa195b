/**
 * What a server says of a failure beyond its status: the `google.rpc` messages in `grpc-status-details-bin`.
 *
 * The four of them have ten fields together, so they are read here by number, and neither this package nor a page needs
 * a dependency for them. Knows nothing of a transport: grpc-js and gRPC-Web both carry these bytes.
 */

import { fromBinary } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { DurationSchema, durationMs } from "@bufbuild/protobuf/wkt";

/** One field of the request that is wrong. */
export interface Violation {
  /** Its path, for example `options.top_k` or `query.attributes.audience`. */
  field: string;
  /** What was expected of it. */
  problem: string;
}

/** What the messages say together. */
export interface Details {
  /** Machine-readable, one of the words in docs/errors.md; undefined when no Consilium server said why. */
  reason: string | undefined;
  /** The facts that belong to the reason, for example `expert`. */
  metadata: Readonly<Record<string, string>>;
  /** Every field that is wrong, not only the first one. */
  violations: readonly Violation[];
  /** Worth another try after so many milliseconds; undefined: not worth one. */
  retryAfterMs: number | undefined;
}

/** A message of any type, as it travels. */
export interface Any {
  /** The full name of its type, without a URL before it. */
  type: string;
  value: Uint8Array;
}

const DOMAIN = "consilium.dev";

/** The details in the bytes of a `google.rpc.Status`. Bytes that are none have none: the status itself still holds. */
export function statusDetails(status: Uint8Array): Any[] {
  try {
    return fields(status, 3).map((any) => {
      const url = text(last(fields(any, 1)));
      return { type: url.slice(url.lastIndexOf("/") + 1), value: last(fields(any, 2)) };
    });
  } catch {
    return [];
  }
}

/** Reads the messages that it knows and skips the others, as well as those that do not decode. */
export function readDetails(messages: Iterable<Any>): Details {
  const details: Details = { reason: undefined, metadata: {}, violations: [], retryAfterMs: undefined };
  for (const { type, value } of messages) {
    try {
      Object.assign(details, READERS[type]?.(value));
    } catch {
      // A broken detail must not hide the failure that it belongs to.
    }
  }
  return details;
}

/** Whether a `grpc-retry-pushback-ms` says not to try again, which gRPC says by any value that is no delay. */
export function forbidsRetry(pushback: string): boolean {
  return !/^\d+$/.test(pushback);
}

const READERS: Readonly<Record<string, (value: Uint8Array) => Partial<Details>>> = {
  "google.rpc.ErrorInfo": (value) => {
    if (text(last(fields(value, 2))) !== DOMAIN) return {};
    const entries = fields(value, 3).map(
      (entry) => [text(last(fields(entry, 1))), text(last(fields(entry, 2)))] as const,
    );
    return { reason: text(last(fields(value, 1))), metadata: Object.fromEntries(entries) };
  },
  "google.rpc.BadRequest": (value) => ({
    violations: fields(value, 1).map((violation) => ({
      field: text(last(fields(violation, 1))),
      problem: text(last(fields(violation, 2))),
    })),
  }),
  "google.rpc.RetryInfo": (value) => ({ retryAfterMs: durationMs(fromBinary(DurationSchema, last(fields(value, 1)))) }),
};

/** Every value of a length-delimited field, in order. */
function fields(message: Uint8Array, wanted: number): Uint8Array[] {
  const reader = new BinaryReader(message);
  const found: Uint8Array[] = [];
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    if (number === wanted && type === WireType.LengthDelimited) found.push(reader.bytes());
    else reader.skip(type, number);
  }
  return found;
}

/** The value of a field that is not repeated; empty where it is absent, as in protobuf. */
function last(values: Uint8Array[]): Uint8Array {
  return values.at(-1) ?? new Uint8Array();
}

function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
