/** What a caller may say, and the requests of the contract that it becomes. Knows nothing of the network. */

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { ChannelCredentials, ChannelOptions } from "@grpc/grpc-js";
import type { TextMapPropagator } from "@opentelemetry/api";

import {
  type Combine,
  type DispatchOptions,
  DispatchOptionsSchema,
  type SendFeedbackRequest,
  SendFeedbackRequestSchema,
} from "./gen/consilium/v1/router_pb.js";
import {
  type CallContext,
  CallContextSchema,
  type Priority,
  type Query,
  QuerySchema,
} from "./gen/consilium/v1/types_pb.js";

/** A client's own settings. */
export interface ClientOptions {
  /** The deadline of a call that names none, in milliseconds. 5,000 unless set. */
  timeoutMs?: number;
  /** `credentials.createSsl(…)` of grpc-js for TLS. Without it only routers on this machine are called, in plaintext. */
  credentials?: ChannelCredentials;
  /** Plaintext to other machines too: whoever is on the way reads questions and answers. */
  plaintext?: boolean;
  /** What sends the trace context along. The program's own unless set, else W3C trace context without baggage. */
  propagator?: TextMapPropagator;
  /** Options of the gRPC channel, above this package's own. */
  channelOptions?: ChannelOptions;
}

/** What every call takes. */
export interface CallOptions {
  /** How long the reply is of use, in milliseconds. The client's own unless set. */
  timeoutMs?: number;
  /** Ends the call when it is aborted. */
  signal?: AbortSignal;
  /** Metadata to send along, for example `authorization`. */
  metadata?: Readonly<Record<string, string>>;
}

/** What may be asked to be different for one question. What is not set is the mesh's own. */
export interface AskOptions extends CallOptions {
  /** Values of the dimensions that the mesh declares, for example `{ audience: "clinician" }`. Only beside a text. */
  attributes?: Readonly<Record<string, string | readonly string[]>>;
  /** Free-form facts, which only rules read. Only beside a text. */
  labels?: Readonly<Record<string, string>>;

  /** At most so many experts, 1 to 16. */
  topK?: number;
  /** The least probability at which an expert is asked, 0 to 1. */
  minConfidence?: number;
  /** Only these experts, by name. */
  experts?: readonly string[];
  /** Versions to use, by expert. */
  versions?: Readonly<Record<string, string>>;
  /** How several answers become one. */
  combine?: Combine;
  /** Under pressure the lower ones give way first. */
  priority?: Priority;

  /** An id of the caller's own for this request. */
  requestId?: string;
  tenant?: string;
  tier?: string;
  /** On whose behalf. */
  subject?: string;
  /** Purpose of use, for example `treatment`. */
  purpose?: string;
}

/** A text, or the whole query: with parts, with earlier turns. */
export type Question = string | Query | MessageInitShape<typeof QuerySchema>;

/** Measures of an answer by name, as the mesh declares them. */
export type Metrics = Readonly<Record<string, boolean | number | string>>;

const LONGEST_MS = 2 ** 31 - 1;

/**
 * The timeout itself if a timer can hold it; there is no way to call without one.
 *
 * @throws RangeError otherwise
 */
export function timeout(milliseconds: number): number {
  if (!(milliseconds > 0 && milliseconds <= LONGEST_MS)) {
    throw new RangeError(`timeoutMs must be above 0 and at most ${LONGEST_MS}: every call has a deadline`);
  }
  return milliseconds;
}

/** The three parts that questions of all kinds have in common. Absent parts stay absent. */
export function dispatch(
  question: Question,
  options: AskOptions,
): { query: Query; context?: CallContext; options?: DispatchOptions } {
  const { topK, minConfidence, experts, versions, combine, priority } = options;
  const { requestId, tenant, tier, subject, purpose } = options;
  const asked = { topK, minConfidence, experts, versions, combine, priority };
  const caller = { requestId, tenant, tier, subject, purpose };
  return {
    query: query(question, options),
    ...(some(caller) && { context: create(CallContextSchema, caller) }),
    ...(some(asked) && {
      options: create(DispatchOptionsSchema, asked as MessageInitShape<typeof DispatchOptionsSchema>),
    }),
  };
}

/**
 * @throws TypeError where a value is neither boolean nor number nor string
 */
export function feedback(token: string, metrics: Metrics): SendFeedbackRequest {
  return create(SendFeedbackRequestSchema, {
    token,
    metrics: Object.entries(metrics).map(([name, value]) => ({ name, value: metric(name, value) })),
  });
}

function query(question: Question, { attributes, labels }: AskOptions): Query {
  if (typeof question !== "string") {
    if (attributes ?? labels)
      throw new TypeError("attributes and labels belong into the query when a whole one is given");
    return create(QuerySchema, question);
  }
  const values = Object.entries(attributes ?? {}).map(
    ([name, value]) => [name, { values: [value].flat() as string[] }] as const,
  );
  return create(QuerySchema, { text: question, attributes: Object.fromEntries(values), labels: { ...labels } });
}

function metric(name: string, value: boolean | number | string) {
  switch (typeof value) {
    case "boolean":
      return { case: "boolean", value } as const;
    case "number":
      return { case: "number", value } as const;
    case "string":
      return { case: "text", value } as const;
    default:
      throw new TypeError(`metrics[${name}] must be a boolean, a number or a string`);
  }
}

function some(values: Record<string, unknown>): boolean {
  return Object.values(values).some((value) => value !== undefined);
}
