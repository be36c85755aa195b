/** What is shown instead of an answer: that nobody knows, that the call failed, that it was stopped. */

import type { Decision } from "../client/gen/consilium/v1/router_pb.js";
import { h } from "../dom.js";
import type { Problem } from "../router.js";
import { plain, time } from "../words.js";

/** Nobody knows the subject: not a failure, and not shown as one. */
export function refusalView(decision: Decision | undefined): HTMLElement {
  const known = decision?.candidates.map(({ expert }) => expert) ?? [];
  return h(
    "div",
    { class: "refusal" },
    h("p", { class: "lead" }, "Nobody in this mesh knows that subject."),
    h("p", {}, "So nobody was asked. It is better to say so than to let somebody guess."),
    known.length > 0 && h("p", { class: "quiet" }, `Considered: ${known.join(", ")}.`),
  );
}

/** @param again called when the user wants another try */
export function problemView(problem: Problem, again: () => void): HTMLElement {
  const { code, reason, message, violations, retryAfterMs, requestId, stopped } = problem;
  if (stopped) return h("div", {}, h("p", { class: "lead" }, "Stopped."));
  const retry = h("button", { type: "button" }, "Try again");
  retry.addEventListener("click", again);
  return h(
    "div",
    { class: "failure" },
    h("p", { class: "lead" }, headline(code)),
    h(
      "p",
      { class: "codes" },
      h("code", { class: "code" }, code),
      reason !== undefined && h("code", { class: "reason" }, reason),
    ),
    violations.length > 0
      ? h(
          "dl",
          { class: "fields" },
          ...violations.flatMap(({ field, problem }) => [h("dt", {}, h("code", {}, field)), h("dd", {}, problem)]),
        )
      : h("p", {}, message || plain(code)),
    retryAfterMs !== undefined && h("p", { class: "retry" }, `Worth another try in ${time(retryAfterMs)}. `, retry),
    requestId !== undefined && h("p", { class: "quiet" }, "Request ", h("code", {}, requestId)),
  );
}

function headline(code: string): string {
  switch (code) {
    case "INVALID_ARGUMENT":
      return "The question cannot be asked like this.";
    case "DEADLINE_EXCEEDED":
      return "The time was up before there was an answer.";
    case "RESOURCE_EXHAUSTED":
      return "Too much to do at the moment.";
    case "UNAVAILABLE":
      return "Whoever should answer is not there at the moment.";
    case "NOT_FOUND":
      return "The mesh does not have what was asked for.";
    case "UNREACHABLE":
      return "The router cannot be reached.";
    case "PAGE_FAILED":
      return "This page cannot show what came.";
    default:
      return "The call failed.";
  }
}
