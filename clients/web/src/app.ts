/** The page: takes a question, follows what becomes of it, and shows each step when it is there. */

import { type Decision, Decision_Outcome, type Done, type Reply } from "./client/gen/consilium/v1/router_pb.js";
import { byId, h, meta } from "./dom.js";
import { type Problem, problemOf, type Question, Router } from "./router.js";
import { answerView, streamedText } from "./view/answer.js";
import { decisionView } from "./view/decision.js";
import { legsView } from "./view/legs.js";
import { problemView, refusalView } from "./view/problem.js";

const EXAMPLES = [
  "Can my patient take ibuprofen with warfarin?",
  "Who arranges home oxygen before discharge?",
  "58-year-old man, chest pressure radiating to the left arm for an hour, sweating",
  "Who won the football world cup in 1998?",
];

// Out of the document and not out of the link: whoever makes a link must not choose who gets the question.
const router = new Router(meta("consilium-router"));
const form = byId<HTMLFormElement>("ask");
let running: AbortController | undefined;

form.addEventListener("submit", (event) => {
  event.preventDefault();
  void ask();
});
form.addEventListener("input", showBar);
byId("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  form.requestSubmit();
});
byId("stop").addEventListener("click", () => running?.abort());
for (const example of EXAMPLES) {
  const button = h("button", { type: "button", class: "example" }, example);
  button.addEventListener("click", () => {
    byId<HTMLTextAreaElement>("text").value = example;
    form.requestSubmit();
  });
  byId("examples").append(button);
}
byId("router").textContent = router.address;
showBar();

/** One question from beginning to end. Whoever asks again before the end no longer wants the first answer. */
async function ask(): Promise<void> {
  running?.abort();
  const controller = new AbortController();
  running = controller;
  const question = read();
  const started = performance.now();
  let decision: Decision | undefined;
  const replies: Reply[] = [];
  const texts = new Map<number, ReturnType<typeof streamedText>>();

  clear();
  try {
    for await (const event of router.ask(question, controller.signal)) {
      if (running !== controller) return;
      switch (event.case) {
        case "decision":
          decision = event.value;
          show("decision", decisionView(decision, question.minConfidence));
          show("legs", legsView(decision, replies, undefined));
          break;
        case "delta": {
          const text = texts.get(event.value.leg) ?? streamedText();
          texts.set(event.value.leg, text);
          text.append(event.value.text);
          show("answer", h("div", {}, ...[...texts.values()].map(({ element }) => element)));
          break;
        }
        case "reply":
          replies.push(event.value);
          show("legs", legsView(decision, replies, undefined));
          break;
        case "done":
          end(event.value, decision);
          show("legs", legsView(decision, replies, performance.now() - started));
          break;
      }
    }
  } catch (thrown) {
    if (running !== controller) return;
    fail(problemOf(thrown));
    // Of a call that goes on while the page cannot show it, nothing more is wanted.
    controller.abort();
  } finally {
    if (running === controller) {
      running = undefined;
      busy(false);
    }
  }
}

function end(done: Done, decision: Decision | undefined): void {
  byId("request").textContent = done.requestId;
  const refused = decision?.outcome === Decision_Outcome.REFUSED;
  if (done.answer) show("answer", answerView(done.answer, done.partial));
  else if (refused) show("answer", refusalView(decision));
  else show("answer", h("p", { class: "quiet" }, "Nobody had an answer."));
  if (done.feedbackToken) offerFeedback(done.feedbackToken);
  say(refused ? "Refused: nobody here knows that subject." : "The answer is there.");
}

function fail(problem: Problem): void {
  // What had streamed by then stays: it is true as far as it goes, and the panel above it says that there is no more.
  const panel = byId("problem");
  panel.replaceChildren(problemView(problem, () => form.requestSubmit()));
  panel.hidden = false;
  if (problem.requestId) byId("request").textContent = problem.requestId;
  say(problem.stopped ? "Stopped." : "The call failed.");
}

function offerFeedback(token: string): void {
  const panel = byId("feedback");
  const buttons = [true, false].map((helpful) => {
    const button = h("button", { type: "button", "data-helpful": String(helpful) }, helpful ? "Yes" : "No");
    button.addEventListener("click", () => void send(helpful));
    return button;
  });
  panel.replaceChildren(h("span", {}, "Was this helpful?"), ...buttons);
  panel.hidden = false;

  /** Another question was asked since; the panel is about that one. */
  function stale(): boolean {
    return !buttons.some((button) => panel.contains(button));
  }

  async function send(helpful: boolean): Promise<void> {
    // The button that was pressed has the focus and cannot keep it.
    if (panel.contains(document.activeElement)) panel.focus();
    for (const button of buttons) button.disabled = true;
    try {
      await router.feedback(token, helpful);
      if (stale()) return;
      panel.replaceChildren(h("span", { class: "thanks" }, "Thank you. Noted."));
      say("Thank you. Noted.");
    } catch (thrown) {
      if (stale()) return;
      const { code, reason, message, retryAfterMs } = problemOf(thrown);
      for (const button of buttons) button.disabled = retryAfterMs === undefined;
      panel.querySelector(".failed")?.remove();
      const what = `Not stored (${reason ?? code}): ${message}`;
      panel.append(h("span", { class: "failed" }, what));
      say(what);
    }
  }
}

function read(): Question {
  const data = new FormData(form);
  const text = (name: string) => String(data.get(name) ?? "");
  return {
    text: text("text").trim(),
    audience: text("audience") || undefined,
    minConfidence: data.has("own") ? undefined : byId<HTMLInputElement>("bar").valueAsNumber,
    topK: Number(text("topK")) || undefined,
    stream: data.has("stream"),
    timeoutMs: Number(text("timeout")),
  };
}

function clear(): void {
  busy(true);
  for (const id of ["problem", "answer", "decision", "legs", "feedback"]) byId(id).hidden = true;
  byId("results").hidden = false;
  byId("request").textContent = "–";
  byId("feedback").replaceChildren();
  say("Asking.");
}

function show(id: "answer" | "decision" | "legs", content: HTMLElement): void {
  const panel = byId(id);
  panel.querySelector(".body")?.replaceChildren(content);
  panel.hidden = false;
}

function showBar(): void {
  const { minConfidence } = read();
  byId<HTMLInputElement>("bar").disabled = minConfidence === undefined;
  byId<HTMLOutputElement>("bar-shown").value = minConfidence?.toFixed(2) ?? "–";
}

function busy(now: boolean): void {
  byId("results").setAttribute("aria-busy", String(now));
  const [here, gone] = now ? [byId("stop"), byId("send")] : [byId("send"), byId("stop")];
  here.hidden = false;
  // Whoever works by keyboard keeps a place: the focus moves on before its button, here or in a panel, is hidden.
  const focused = document.activeElement;
  if (focused === gone || (now && byId("results").contains(focused))) here.focus();
  gone.hidden = true;
}

function say(what: string): void {
  byId("status").textContent = what;
}
