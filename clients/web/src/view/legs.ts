/** Where the time went: the gate, then each leg with its attempts, on one line of time. */

import type { Decision, Reply } from "../client/gen/consilium/v1/router_pb.js";
import type { Attempt, Timings } from "../client/gen/consilium/v1/types_pb.js";
import { h } from "../dom.js";
import { codeName, milliseconds, time } from "../words.js";

/** @param took from asking to the end, as the page saw it; undefined while it is not over */
export function legsView(
  decision: Decision | undefined,
  replies: readonly Reply[],
  took: number | undefined,
): HTMLElement {
  const gate = milliseconds(decision?.elapsed);
  const ends = replies.flatMap(({ attempts }) =>
    attempts.map((attempt) => milliseconds(attempt.startOffset) + milliseconds(attempt.duration)),
  );
  const end = Math.max(gate, took ?? 0, ...ends) || 1;
  return h(
    "div",
    { class: "legs" },
    decision && row("gate", [block("gate", 0, gate, end, `gate, ${time(gate)}`)], time(gate)),
    ...replies.map((reply) => leg(reply, end)),
    took !== undefined &&
      row("this page", [block("whole", 0, took, end, `as this page saw it, ${time(took)}`)], time(took)),
    h(
      "div",
      { class: "axis", "aria-hidden": "true" },
      h("span", {}, "0"),
      h("span", {}, time(end / 2)),
      h("span", {}, time(end)),
    ),
  );
}

function leg({ expert, instance, attempts, timings, result }: Reply, end: number): HTMLElement {
  const whole = attempts.reduce((sum, { duration }) => sum + milliseconds(duration), 0);
  const failed =
    result.case === "failure"
      ? `${result.value.reason || codeName(result.value.code)}: ${result.value.message}`
      : undefined;
  return row(
    expert,
    attempts.map((attempt, index) => attemptBlock(attempt, index + 1, end)),
    time(whole),
    h(
      "p",
      { class: "quiet" },
      [instance, attempts.length > 1 && `${attempts.length} attempts`, timings && steps(timings)]
        .filter(Boolean)
        .join(" · "),
    ),
    failed !== undefined && h("p", { class: "failed" }, failed),
  );
}

function attemptBlock(
  { code, startOffset, duration, hedge, instance }: Attempt,
  number: number,
  end: number,
): HTMLElement {
  const start = milliseconds(startOffset);
  const took = milliseconds(duration);
  const kind = code === 0 ? "ok" : "bad";
  return block(
    hedge ? `${kind} hedge` : kind,
    start,
    took,
    end,
    `attempt ${number} on ${instance}: ${codeName(code)} after ${time(took)}`,
  );
}

function block(kind: string, start: number, took: number, end: number, title: string): HTMLElement {
  return h("span", {
    class: `block ${kind}`,
    "--start": start / end,
    "--share": took / end,
    title,
    role: "img",
    "aria-label": title,
  });
}

function row(name: string, blocks: HTMLElement[], value: string, ...notes: (HTMLElement | false)[]): HTMLElement {
  return h(
    "div",
    { class: "leg" },
    h("span", { class: "name" }, name),
    h("span", { class: "track" }, ...blocks),
    h("span", { class: "value" }, value),
    ...notes,
  );
}

function steps({ tokenize, queue, inference, total }: Timings): string {
  const parts = Object.entries({ tokenize, queue, inference, total }).map(
    ([name, duration]) => [name, milliseconds(duration)] as const,
  );
  return parts
    .filter(([, ms]) => ms > 0)
    .map(([name, ms]) => `${name} ${time(ms)}`)
    .join(", ");
}
