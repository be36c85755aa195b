/** A real gRPC server that does what a test tells it, and remembers what it was sent. */

import { type DescMethod, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { RouterService } from "@consilium/client";
import {
  Metadata,
  type MethodDefinition,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
  type StatusObject,
  type sendUnaryData,
} from "@grpc/grpc-js";

type Failure = Partial<StatusObject>;

/** What the server does with its calls. A unary script returns the reply or throws a {@link Failure}. */
export interface Script {
  dispatch?: (call: ServerUnaryCall<Message, Message>) => Message | Promise<Message>;
  explain?: (call: ServerUnaryCall<Message, Message>) => Message | Promise<Message>;
  sendFeedback?: (call: ServerUnaryCall<Message, Message>) => Message | Promise<Message>;
  streamDispatch?: (call: ServerWritableStream<Message, Message>) => void;
}

/** One call as it arrived. */
export interface Seen {
  method: string;
  metadata: Metadata;
  request: Message;
  /** Milliseconds that were left of the deadline; `Infinity` without one. */
  left: number;
}

export class ScriptedRouter {
  readonly seen: Seen[] = [];
  readonly #server = new Server({ "grpc.max_receive_message_length": -1 });
  #port = 0;

  static async start(script: Script): Promise<ScriptedRouter> {
    const router = new ScriptedRouter();
    router.#server.addService(definition(), router.#implementation(script));
    router.#port = await new Promise((resolve, reject) =>
      router.#server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) =>
        error ? reject(error) : resolve(port),
      ),
    );
    return router;
  }

  get target(): string {
    return `127.0.0.1:${this.#port}`;
  }

  stop(): void {
    this.#server.forceShutdown();
  }

  #implementation(script: Script) {
    const unary =
      (method: "dispatch" | "explain" | "sendFeedback") =>
      async (call: ServerUnaryCall<Message, Message>, reply: sendUnaryData<Message>) => {
        this.#note(method, call);
        try {
          reply(null, await script[method]?.(call));
        } catch (failure) {
          reply(failure as Failure);
        }
      };
    return {
      dispatch: unary("dispatch"),
      explain: unary("explain"),
      sendFeedback: unary("sendFeedback"),
      streamDispatch: (call: ServerWritableStream<Message, Message>) => {
        this.#note("streamDispatch", call);
        script.streamDispatch?.(call);
      },
    };
  }

  #note(method: string, call: ServerUnaryCall<Message, Message> | ServerWritableStream<Message, Message>): void {
    this.seen.push({
      method,
      metadata: call.metadata,
      request: call.request,
      left: Number(call.getDeadline()) - Date.now(),
    });
  }
}

/** Metadata with a `google.rpc.Status` of these details in it. */
export function withDetails(...details: { type: string; value: Uint8Array }[]): Metadata {
  const status = new BinaryWriter();
  status.tag(1, WireType.Varint).int32(3);
  for (const { type, value } of details) {
    status.tag(3, WireType.LengthDelimited).bytes(message([1, `type.googleapis.com/${type}`], [2, value]));
  }
  const metadata = new Metadata();
  metadata.set("grpc-status-details-bin", Buffer.from(status.finish()));
  return metadata;
}

/** A message of length-delimited fields. */
export function message(...fields: [number, string | Uint8Array][]): Uint8Array {
  const writer = new BinaryWriter();
  for (const [number, value] of fields) {
    writer.tag(number, WireType.LengthDelimited);
    if (typeof value === "string") writer.string(value);
    else writer.bytes(value);
  }
  return writer.finish();
}

/** grpc-js's description of the service, out of the generated descriptors. */
function definition(): ServiceDefinition {
  return Object.fromEntries(RouterService.methods.map((method) => [method.localName, methodDefinition(method)]));
}

function methodDefinition(method: DescMethod): MethodDefinition<Message, Message> {
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    requestStream: false,
    responseStream: method.methodKind === "server_streaming",
    requestSerialize: (request) => Buffer.from(toBinary(method.input, request)),
    requestDeserialize: (bytes) => fromBinary(method.input, bytes),
    responseSerialize: (reply) => Buffer.from(toBinary(method.output, reply)),
    responseDeserialize: (bytes) => fromBinary(method.output, bytes),
  };
}
