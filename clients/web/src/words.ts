/** How numbers, times and the contract's words are written for people. */

import type { Duration } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";

/** `98 %`, and never `0 %` or `100 %` of what is not. */
export function percent(share: number): string {
  if (share > 0 && share < 0.01) return "< 1 %";
  if (share < 1 && share > 0.99) return "> 99 %";
  return `${Math.round(share * 100)} %`;
}

/** Milliseconds, undefined counting as none. */
export function milliseconds(duration: Duration | undefined): number {
  return duration ? Number(duration.seconds) * 1_000 + duration.nanos / 1e6 : 0;
}

/** `0.08 ms`, `19 ms`, `1.5 s`. */
export function time(ms: number): string {
  if (ms >= 1_000) return `${(ms / 1_000).toFixed(1)} s`;
  return `${ms >= 10 ? ms.toFixed(0) : ms >= 1 ? ms.toFixed(1) : ms.toFixed(2)} ms`;
}

/** `LOW_CONFIDENCE` as `low confidence`. */
export function plain(word: string): string {
  return word.toLowerCase().replaceAll("_", " ");
}

/** A gRPC code as the contract writes it, `INVALID_ARGUMENT`; Connect has names of its own for the same numbers. */
export function codeName(code: number): string {
  if (code === 0) return "OK";
  if (code === Code.Canceled) return "CANCELLED";
  return (Code[code] ?? `code ${code}`).replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
}
