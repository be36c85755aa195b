/** What the experts say, whatever its kind, with what it rests on. */

import type { Answer, Classification, Passage, Source, Span } from "../client/gen/consilium/v1/types_pb.js";
import { h } from "../dom.js";
import { percent, plain } from "../words.js";

export function answerView(answer: Answer, partial: boolean): HTMLElement {
  return h(
    "div",
    {},
    partial && h("p", { class: "note" }, "Some experts did not answer; this is what the others say."),
    ...(answer.sections.length > 0
      ? answer.sections.map(({ expert, answer: part }) =>
          h("section", { class: "part" }, h("h3", {}, expert), part && body(part)),
        )
      : [body(answer)]),
    answer.truncated &&
      h("p", { class: "note" }, "The question was longer than the model reads; its end was not read."),
    answer.sources.length > 0 &&
      h(
        "div",
        { class: "sources" },
        h("h3", {}, "Sources"),
        h("ol", {}, ...answer.sources.map((source) => h("li", {}, sourceView(source)))),
      ),
  );
}

/** Text as it streams; `append` adds a piece. */
export function streamedText(): { element: HTMLElement; append(text: string): void } {
  const element = h("p", { class: "text streaming" });
  return { element, append: (text) => element.append(text) };
}

function body({ body }: Answer): HTMLElement {
  switch (body.case) {
    case "passages": {
      const [best, ...others] = body.value.passages;
      if (!best) return h("p", { class: "quiet" }, "Nothing was found.");
      return h(
        "div",
        { class: "passages" },
        passage(best),
        others.length > 0 &&
          h("details", {}, h("summary", {}, `${others.length} more that were found`), ...others.map(passage)),
      );
    }
    case "classification":
      return classification(body.value);
    case "text":
      return h("p", { class: "text" }, body.value.text);
    case "embedding":
      return h("p", {}, `A vector of ${body.value.vector.length} numbers.`);
    case "tensors":
      return h(
        "ul",
        {},
        ...body.value.tensors.map(({ name, datatype, shape }) =>
          h("li", {}, h("code", {}, `${name}: ${datatype} [${shape.join(", ")}]`)),
        ),
      );
    case undefined:
      return h("p", { class: "quiet" }, "The answer is empty.");
  }
}

function passage({ title, text, score, best, source }: Passage): HTMLElement {
  return h(
    "article",
    { class: "passage" },
    h("h3", {}, title),
    h("p", {}, ...marked(text, best)),
    h("p", { class: "quiet" }, source && sourceView(source), ` · similarity ${score.toFixed(2)}`),
  );
}

/** The text with the best sentence marked, whose place is given in bytes of UTF-8. */
function marked(text: string, best: Span | undefined): (Node | string)[] {
  if (!best || best.end <= best.start) return [text];
  const bytes = new TextEncoder().encode(text);
  const slice = (start: number, end?: number) => new TextDecoder().decode(bytes.subarray(start, end));
  return [slice(0, best.start), h("mark", {}, slice(best.start, best.end)), slice(best.end)];
}

function sourceView({ title, uri, asOf, licence }: Source): HTMLElement {
  const name = title || uri;
  // Only what a link may safely be: an expert's knowledge can come from anywhere.
  const link = /^https?:\/\//.test(uri) ? h("a", { href: uri, rel: "noreferrer" }, name) : name;
  return h(
    "span",
    { class: "source" },
    link,
    [asOf && `, as of ${asOf}`, licence && `, ${licence}`].filter(Boolean).join(""),
  );
}

function classification({ heads }: Classification): HTMLElement {
  return h(
    "div",
    { class: "heads" },
    ...heads.map(({ name, labels }) =>
      h(
        "section",
        {},
        h("h3", {}, plain(name)),
        h(
          "ol",
          { class: "labels" },
          ...labels
            .slice(0, 5)
            .map(({ name, probability }) =>
              h(
                "li",
                {},
                h("span", { class: "name" }, name),
                h("span", { class: "meter" }, h("span", { class: "solid", "--share": probability })),
                h("span", { class: "value" }, percent(probability)),
              ),
            ),
        ),
      ),
    ),
  );
}
