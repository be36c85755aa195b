/** The decision as a picture: who was considered and how probable, the bar, who was asked and why. */

import { type Decision, type Decision_Candidate, Decision_Outcome } from "../client/gen/consilium/v1/router_pb.js";
import { h } from "../dom.js";
import { milliseconds, percent, plain, time } from "../words.js";

const OUTCOMES: Readonly<Record<Decision_Outcome, string>> = {
  [Decision_Outcome.UNSPECIFIED]: "unknown",
  [Decision_Outcome.DISPATCHED]: "dispatched",
  [Decision_Outcome.FALLBACK]: "fallback",
  [Decision_Outcome.REFUSED]: "refused",
  [Decision_Outcome.UNAVAILABLE]: "unavailable",
};

/**
 * @param bar the least confidence that was asked for; undefined: the mesh's own, which a decision does not tell
 */
export function decisionView(decision: Decision, bar: number | undefined): HTMLElement {
  const outcome = OUTCOMES[decision.outcome];
  const somebody = decision.candidates.reduce((sum, { probability }) => sum + probability, 0);
  return h(
    "div",
    {},
    h(
      "p",
      { class: "outcome" },
      h("strong", { class: "badge", "data-outcome": outcome }, outcome),
      h("span", {}, plain(decision.reason)),
      h("span", { class: "quiet" }, `${decision.gateTier} in ${time(milliseconds(decision.elapsed))}`),
    ),
    h(
      "div",
      { class: bar === undefined ? "chart" : "chart held", "--bar": bar },
      h(
        "ol",
        { class: "candidates" },
        ...decision.candidates.map((candidate) => candidateView(candidate, somebody)),
        nobody(1 - somebody),
      ),
      bar !== undefined &&
        h("div", { class: "threshold", "aria-hidden": "true" }, h("span", {}, `bar ${bar.toFixed(2)}`)),
    ),
    h(
      "p",
      { class: "legend" },
      h("span", { class: "key solid" }),
      "probability ",
      h("span", { class: "key pale" }),
      "if anybody here knows the subject",
      bar !== undefined && `; the bar of ${bar.toFixed(2)} is held against this`,
    ),
    facts(decision),
  );
}

function candidateView(candidate: Decision_Candidate, somebody: number): HTMLElement {
  const { expert, version, probability, selected, reasons } = candidate;
  const share = somebody > 0 ? probability / somebody : 0;
  return h(
    "li",
    { class: "candidate", "data-expert": expert, "data-selected": selected },
    h(
      "span",
      { class: "name" },
      expert,
      h("small", {}, ` ${version}`),
      selected && h("span", { class: "chip" }, "asked"),
    ),
    meter(`${expert}: probability`, probability, share),
    h("span", { class: "value" }, percent(probability)),
    h("ul", { class: "reasons" }, ...(selected ? reasons : reasons.slice(0, 1)).map((reason) => h("li", {}, reason))),
  );
}

/** What the candidates leave over. The gate may be sure that nobody knows, and then no bar needs to be held. */
function nobody(probability: number): HTMLElement | undefined {
  if (probability < 0.005) return undefined;
  return h(
    "li",
    { class: "candidate nobody" },
    h("span", { class: "name" }, "nobody here"),
    meter("nobody here: probability", probability, probability),
    h("span", { class: "value" }, percent(probability)),
  );
}

function meter(label: string, probability: number, share: number): HTMLElement {
  return h(
    "span",
    {
      class: "meter",
      role: "meter",
      "aria-label": label,
      "aria-valuemin": 0,
      "aria-valuemax": 1,
      "aria-valuenow": probability.toFixed(4),
    },
    h("span", { class: "pale", "--share": share }),
    h("span", { class: "solid", "--share": probability }),
  );
}

function facts({ dimensions, rulesMatched, unavailableExperts, gateRevision }: Decision): HTMLElement {
  const rows = dimensions.map(({ name, values, source }): [string, string] => {
    const shown = values.map(({ value, probability }) =>
      probability < 1 ? `${value} ${percent(probability)}` : value,
    );
    return [name, `${shown.join(", ") || "unknown"} (${source})`];
  });
  if (rulesMatched.length > 0) rows.push([rulesMatched.length > 1 ? "rules" : "rule", rulesMatched.join(", ")]);
  if (unavailableExperts.length > 0) rows.push(["not there", unavailableExperts.join(", ")]);
  rows.push(["gate", gateRevision]);
  return h("dl", { class: "facts" }, ...rows.flatMap(([term, fact]) => [h("dt", {}, term), h("dd", {}, fact)]));
}
