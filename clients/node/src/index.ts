/**
 * Asks a Consilium mesh. Start with {@link Client}; what comes back are the messages of the contract themselves.
 *
 * @packageDocumentation
 */

export { Client } from "./client.js";
export { Code, ConsiliumError, type Violation } from "./error.js";
export * from "./gen/consilium/v1/router_pb.js";
export * from "./gen/consilium/v1/types_pb.js";
export type { AskOptions, CallOptions, ClientOptions, Metrics, Question } from "./options.js";
export { VERSION } from "./version.js";
