/**
 * The page in headless Chromium, against a mesh that runs: the clinic, whose router allows the page's origin.
 *
 *     CONSILIUM_ROUTER=http://127.0.0.1:7600 npm test
 *
 * PAGE_PORT is where the page is served (8080 unless set; the clinic allows http://127.0.0.1:8080), CHROMIUM the browser, and
 * SCREENSHOT=FILE.png takes a picture.
 */

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";

import { build } from "esbuild";
import { chromium } from "playwright-core";

import { documentFor } from "../document.js";
import { serve } from "../serve.js";

const { CONSILIUM_ROUTER: ROUTER, PAGE_PORT = "8080", PATH = "", SCREENSHOT } = process.env;
const CHROMIUM =
  process.env.CHROMIUM ??
  [...PATH.split(delimiter).map((folder) => join(folder, "chromium")), "/usr/bin/chromium"].find(existsSync);
if (!ROUTER) throw new Error("CONSILIUM_ROUTER must be the address of a router, for example http://127.0.0.1:7600");
if (!CHROMIUM) throw new Error("there is no chromium on the PATH; CHROMIUM may name a browser like it");

const INTERACTION = "Can my patient take ibuprofen with warfarin?";
// Probable enough for two experts that both are asked where two may be.
const BETWEEN_TWO = "Does she need a new appointment?";
const OUT_OF_SCOPE = "Who won the football world cup in 1998?";

let browser;
let pages;
let page;
/** What the page asked of the router, as method names, preflights not counted. */
let asked;
/** What the browser complained about: scripts that failed, what the content security policy forbade, CORS. */
let complaints;

before(async () => {
  pages = await serve(Number(PAGE_PORT), ROUTER);
  browser = await chromium.launch({
    executablePath: CHROMIUM,
    // A browser of its own accord looks for updates, syncs and more; on a machine without internet that is noise.
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
});

after(async () => {
  await browser?.close();
  pages?.close();
});

beforeEach(async () => {
  page = await browser.newPage({
    viewport: { width: 1280, height: 900 },
    reducedMotion: "reduce",
    colorScheme: "light",
  });
  page.setDefaultTimeout(15_000);
  asked = [];
  complaints = [];
  page.on("request", (request) => {
    const { pathname } = new URL(request.url());
    if (request.method() === "POST") asked.push(pathname.slice(pathname.lastIndexOf("/") + 1));
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
});

afterEach(() => page.close());

/** Opens the page as served by this server. */
async function open(server = pages, search = "") {
  await page.goto(`http://127.0.0.1:${server.address().port}/${search}`);
}

/** Serves one more page while the test runs. */
async function another(test, router) {
  const server = await serve(0, router);
  test.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return server;
}

/** The id of what has the focus. */
function focused() {
  return page.evaluate(() => document.activeElement.id);
}

async function ask(text) {
  await page.getByLabel("Your question").fill(text);
  await page.getByRole("button", { name: "Ask", exact: true }).click();
  await page.locator("#results[aria-busy=false]").waitFor();
}

describe("the page", () => {
  for (const [method, streams] of [
    ["StreamDispatch", true],
    ["Dispatch", false],
  ]) {
    it(`shows the answer with its sources, the decision and the time, by ${method}`, async () => {
      await open();
      await page.getByLabel("as it happens").setChecked(streams);
      await page.getByLabel("Audience").selectOption("clinician");
      await ask(INTERACTION);
      assert.deepEqual(asked, [method]);

      const answer = page.getByRole("region", { name: "Answer" });
      assert.match(await answer.locator(".passage").first().innerText(), /warfarin/i);
      assert.match(await answer.locator("mark").first().innerText(), /bleeding/);
      assert.ok((await answer.locator(".sources li").count()) > 0, "there are sources");

      const decision = page.getByRole("region", { name: "Decision" });
      assert.equal(await decision.locator(".badge").innerText(), "dispatched");
      const chosen = decision.locator("[data-selected]");
      assert.deepEqual(await chosen.evaluateAll((all) => all.map((one) => one.dataset.expert)), ["drug-interactions"]);
      assert.ok((await chosen.locator(".reasons li").count()) > 0, "the choice has reasons");
      const drawn = await decision
        .locator(".candidate[data-expert]")
        .evaluateAll((all) => all.map((one) => one.dataset.expert));
      const experts = [
        "drug-interactions",
        "care-coordination",
        "clinical-documentation",
        "diagnostic-reasoning",
        "general",
      ];
      for (const expert of experts) {
        assert.ok(drawn.includes(expert), `${expert} is drawn: ${drawn}`);
      }
      const probabilities = await decision
        .getByRole("meter")
        .evaluateAll((all) => all.map((one) => Number(one.getAttribute("aria-valuenow"))));
      assert.ok(probabilities[0] > 0.5, `the first is probable: ${probabilities}`);
      assert.match(await decision.locator(".facts").innerText(), /audience\s+clinician \(given\)/);

      const time = page.getByRole("region", { name: "Time" });
      assert.ok(
        (await time.getByLabel(/^attempt 1 on drug-interactions-.*: OK after/).count()) === 1,
        "the attempt is drawn",
      );
      assert.notEqual(await page.locator("#request").innerText(), "–");
      assert.deepEqual(complaints, []);
    });
  }

  it("draws bars as long as they say, and the bar where it stands", async () => {
    await open();
    await page.getByLabel("Least confidence").fill("0.3");
    await ask(INTERACTION);
    const { bars, line } = await page.locator(".chart").evaluate((chart) => ({
      bars: [...chart.querySelectorAll("[data-expert] .meter")].map((meter) => ({
        left: meter.getBoundingClientRect().left,
        width: meter.getBoundingClientRect().width,
        solid: meter.querySelector(".solid").getBoundingClientRect().width,
        says: Number(meter.getAttribute("aria-valuenow")),
      })),
      line: chart.querySelector(".threshold").getBoundingClientRect().left,
    }));
    for (const { width, solid, says } of bars)
      assert.ok(Math.abs(solid - Math.max(says * width, 2)) <= 1, `${solid} px of ${width} for ${says}`);
    assert.ok(Math.abs(line - (bars[0].left + 0.3 * bars[0].width)) <= 1, `the line stands at ${line} px`);
    await page.getByRole("checkbox", { name: "mesh’s own" }).check();
    await ask(INTERACTION);
    assert.equal(await page.locator(".threshold").count(), 0);
  });

  it("shows the decision before the answer when it streams", async () => {
    await open();
    await page.evaluate(() => {
      window.shown = [];
      const watch = new MutationObserver((changes) =>
        window.shown.push(...changes.filter(({ target }) => !target.hidden).map(({ target }) => target.id)),
      );
      for (const id of ["decision", "answer"])
        watch.observe(document.getElementById(id), { attributeFilter: ["hidden"] });
    });
    await ask(INTERACTION);
    assert.deepEqual(await page.evaluate(() => window.shown), ["decision", "answer"]);
  });

  it("shows every expert that was asked", async () => {
    await open();
    await page.getByLabel("Most experts").selectOption("2");
    await page.getByLabel("Least confidence").fill("0");
    await ask(BETWEEN_TWO);
    assert.equal(await page.locator("[data-selected]").count(), 2);
    assert.equal(await page.getByLabel(/^attempt 1 on /).count(), 2);
  });

  it("shows a classification as bars", async () => {
    await open();
    await ask("58-year-old man, chest pressure radiating to the left arm for an hour, sweating");
    assert.match(await page.locator(".heads").innerText(), /specialty\s+cardiology\s+\d+ %/i);
  });

  it("shows that nobody knows, which is no failure", async () => {
    await open();
    await ask(OUT_OF_SCOPE);
    assert.match(await page.locator("#answer").innerText(), /Nobody in this mesh knows that subject/);
    assert.equal(await page.locator("#decision .badge").innerText(), "refused");
    assert.equal(await page.locator("[data-selected]").count(), 0);
    assert.ok(await page.locator(".nobody").isVisible(), "the chance that nobody knows is drawn");
    assert.ok(await page.locator("#problem").isHidden());
    assert.deepEqual(complaints, []);
  });

  for (const streams of [true, false]) {
    it(`shows what is wrong with the question, ${streams ? "streaming" : "at once"}`, async () => {
      await open();
      await page.getByLabel("as it happens").setChecked(streams);
      await ask("   ");
      const problem = page.getByRole("alert");
      assert.equal(await problem.locator(".code").innerText(), "INVALID_ARGUMENT");
      assert.equal(await problem.locator(".reason").innerText(), "INVALID_REQUEST");
      assert.deepEqual(await problem.locator(".fields dt").allInnerTexts(), ["query.text"]);
      assert.match(await problem.innerText(), /Request\s+[0-9a-f-]{36}/);
      assert.ok(await page.locator("#answer").isHidden());
    });
  }

  it("shows text as it comes, attempts that fail, and how a stream breaks off", async () => {
    // No expert of the clinic does any of this on demand: so the reply is made here, byte for byte.
    await page.route("**/StreamDispatch", async (route) => {
      const headers = {
        "content-type": "application/grpc-web+proto",
        "consilium-request-id": "r-1",
        "access-control-allow-origin": "*",
        "access-control-expose-headers": "*",
      };
      await route.fulfill({ headers, body: await brokenStream() });
    });
    await open();
    await ask(INTERACTION);
    assert.equal(await page.locator("#answer .text").innerText(), "Better not.");
    assert.ok(await page.getByLabel("attempt 1 on a: UNAVAILABLE after 10 ms").isVisible());
    assert.ok(await page.getByLabel("attempt 2 on b: OK after 20 ms").isVisible());
    const [first, second] = await page
      .locator(".block.bad, .block.ok")
      .evaluateAll((all) => all.map((one) => one.getBoundingClientRect().toJSON()));
    assert.ok(
      Math.abs(second.left - first.right) <= 1 && Math.abs(second.width - 2 * first.width) <= 1,
      "the blocks are to scale",
    );
    const problem = page.getByRole("alert");
    assert.deepEqual(await problem.locator(".codes code").allInnerTexts(), ["RESOURCE_EXHAUSTED", "QUEUE_FULL"]);
    assert.match(await problem.innerText(), /the queue is full\s+Worth another try in 1\.5 s\./);
    assert.match(await problem.innerText(), /Request r-1/);
    await problem.getByRole("button", { name: "Try again" }).click();
    await page.locator("#results[aria-busy=false]").waitFor();
    assert.deepEqual(asked, ["StreamDispatch", "StreamDispatch"]);
    assert.equal(await focused(), "send");
  });

  it("sends the token back with what the user thinks of the answer", async () => {
    await open();
    await ask(INTERACTION);
    await page.getByText("Was this helpful?").waitFor();
    await page.getByRole("button", { name: "Yes" }).click();
    await page.locator(".thanks").getByText("Thank you. Noted.").waitFor();
    assert.equal(await page.locator("#status").innerText(), "Thank you. Noted.");
    assert.equal(await focused(), "feedback");
    assert.deepEqual(asked, ["StreamDispatch", "SendFeedback"]);
    assert.deepEqual(complaints, []);
  });

  it("keeps an answer to feedback away from the next question", async () => {
    await open();
    await ask(INTERACTION);
    let release;
    const released = new Promise((resolve) => {
      release = resolve;
    });
    await page.route("**/SendFeedback", async (route) => {
      await released;
      await route.continue();
    });
    const feedback = page.waitForResponse("**/SendFeedback");
    await page.getByRole("button", { name: "Yes" }).click();
    await ask(INTERACTION);
    await page.evaluate(() => {
      window.shown = [];
      const watch = new MutationObserver((changes) => {
        for (const { addedNodes } of changes) for (const { textContent } of addedNodes) window.shown.push(textContent);
      });
      for (const id of ["feedback", "status"]) watch.observe(document.getElementById(id), { childList: true });
    });
    release();
    await (await feedback).finished();
    // What the network brings later is shown later, so by then whatever it shows of the feedback is there.
    await ask(INTERACTION);
    assert.deepEqual(await page.evaluate(() => window.shown), [
      "Asking.",
      "Was this helpful?",
      "Yes",
      "No",
      "The answer is there.",
    ]);
  });

  it("keeps the focus where the keyboard left it", async () => {
    let release;
    const held = new Promise((resolve) => {
      release = resolve;
    });
    await page.route("**/StreamDispatch", async (route) => {
      await held;
      await route.continue();
    });
    await open();
    await page.getByLabel("Your question").fill(INTERACTION);
    await page.getByRole("button", { name: "Ask", exact: true }).press("Enter");
    assert.equal(await focused(), "stop");
    release();
    await page.locator("#results[aria-busy=false]").waitFor();
    assert.equal(await focused(), "send");
    await page.getByLabel("Your question").press("Enter");
    await page.locator("#results[aria-busy=false]").waitFor();
    assert.equal(await focused(), "text");
  });

  it("says so when it cannot show what came", async () => {
    await open();
    await page.evaluate(() => {
      Number.prototype.toFixed = () => {
        throw new TypeError("broken on purpose");
      };
    });
    await ask(INTERACTION);
    const problem = page.getByRole("alert");
    assert.equal(await problem.locator(".code").innerText(), "PAGE_FAILED");
    assert.match(await problem.innerText(), /broken on purpose/);
    assert.match(complaints.join("\n"), /broken on purpose/);
  });

  it("says so when feedback is not stored", async () => {
    await open();
    await ask(INTERACTION);
    await page.route("**/SendFeedback", (route) => route.abort());
    await page.getByRole("button", { name: "No", exact: true }).click();
    await page.locator(".failed").getByText("Not stored (UNREACHABLE)").waitFor();
    assert.match(await page.locator("#status").innerText(), /^Not stored/);
  });

  it("says that a router is not there", async (test) => {
    // A port that was free a moment ago.
    const gone = await serve(0);
    const { port } = gone.address();
    await new Promise((resolve) => gone.close(resolve));
    await open(await another(test, `http://127.0.0.1:${port}`));
    await ask(INTERACTION);
    assert.equal(await page.getByRole("alert").locator(".code").innerText(), "UNREACHABLE");
  });

  it("fits a small screen", async () => {
    await page.setViewportSize({ width: 360, height: 740 });
    await open();
    await ask(INTERACTION);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
  });
});

it("a page of another origin is refused by CORS", async (test) => {
  await open(await another(test, ROUTER));
  await ask(INTERACTION);
  assert.equal(await page.getByRole("alert").locator(".code").innerText(), "UNREACHABLE");
  assert.match(complaints.join("\n"), /blocked by CORS policy/);
  assert.ok(await page.locator("#decision").isHidden());
});

describe("where the page calls", () => {
  it("is not up to who made the link", async (test) => {
    const other = await another(test, ROUTER);
    const address = `http://127.0.0.1:${other.address().port}`;
    const called = new Set();
    page.on("request", (request) => request.method() === "POST" && called.add(new URL(request.url()).origin));
    await open(pages, `?router=${encodeURIComponent(address)}`);
    await ask(INTERACTION);
    assert.deepEqual([...called], [ROUTER]);
    // Nor up to a script: the policy knows the router and nobody else.
    assert.equal(
      await page.evaluate((url) => fetch(url, { mode: "no-cors" }).catch(({ name }) => name), address),
      "TypeError",
    );
    assert.match(complaints.join("\n"), /Content Security Policy/);
  });

  it("is an origin that markup and policy can hold", async () => {
    for (const address of [
      "127.0.0.1:7600",
      "ws://a",
      "http://a/path",
      "http://u:p@a",
      'http://a";x',
      "http://a;x",
      "http://[::1]:1",
      "",
    ])
      await assert.rejects(documentFor(address), TypeError, address);
    const { html, policy } = await documentFor("https://mesh.example/");
    assert.match(policy, /connect-src https:\/\/mesh\.example;/);
    assert.ok(html.includes(`content="${policy}"`) && html.includes('content="https://mesh.example"'), html);
  });
});

describe("the server", () => {
  it("says what browsers are to keep to", async () => {
    for (const path of ["", "index.html", "app.js", "style.css", "missing"]) {
      const { headers } = await fetch(`http://127.0.0.1:${pages.address().port}/${path}`);
      assert.match(headers.get("content-security-policy"), /connect-src http:\S+; .*frame-ancestors 'none'$/);
      assert.equal(headers.get("x-content-type-options"), "nosniff");
    }
  });

  it("survives paths that are none and files that are not there", async (test) => {
    const empty = await serve(0, ROUTER, new URL("nothing/", import.meta.url));
    test.after(() => {
      empty.close();
      empty.closeAllConnections();
    });
    for (const [path, status] of [
      ["//", 404],
      ["/..%2fpackage.json", 404],
      ["/app.js", 404],
      ["/?x", 200],
    ])
      assert.equal((await fetch(`http://127.0.0.1:${empty.address().port}${path}`)).status, status, path);
  });
});

it("has its picture taken", { skip: !SCREENSHOT && "SCREENSHOT is not set" }, async () => {
  await open();
  await page.getByLabel("Audience").selectOption("clinician");
  await ask(INTERACTION);
  await page.screenshot({ path: SCREENSHOT, fullPage: true });
});

/** Two pieces of text, a reply with two attempts, and the end: RESOURCE_EXHAUSTED, with details. */
async function brokenStream() {
  const { create, StreamDispatchResponseSchema, toBinary } = await contract();
  const ms = (milliseconds) => ({ seconds: 0n, nanos: milliseconds * 1e6 });
  const attempts = [
    { instance: "a", code: 14, startOffset: ms(0), duration: ms(10) },
    { instance: "b", code: 0, startOffset: ms(10), duration: ms(20), hedge: true },
  ];
  const events = [
    { case: "delta", value: { leg: 0, text: "Better " } },
    { case: "delta", value: { leg: 0, text: "not." } },
    { case: "reply", value: { expert: "general", attempts } },
  ];
  const info = field(1, "QUEUE_FULL") + field(2, "consilium.dev");
  const retry = field(1, "\x08\x01\x10\x80\xca\xb5\xee\x01");
  const any = (type, value) => field(3, field(1, `type.googleapis.com/${type}`) + field(2, value));
  // Connect believes the code and the message in the details, and reads the other trailers only where there are none.
  const status = `\x08\x08${field(2, "the queue is full")}`;
  const details = Buffer.from(
    status + any("google.rpc.ErrorInfo", info) + any("google.rpc.RetryInfo", retry),
    "latin1",
  ).toString("base64");
  const trailers = `grpc-status: 8\r\ngrpc-message: the queue is full\r\ngrpc-status-details-bin: ${details}\r\n`;
  const messages = events.map((event) =>
    frame(0, toBinary(StreamDispatchResponseSchema, create(StreamDispatchResponseSchema, { event }))),
  );
  return Buffer.concat([...messages, frame(0x80, Buffer.from(trailers))]);
}

/** A length-delimited field of a message, of fewer than 128 bytes. */
function field(number, value) {
  return String.fromCharCode((number << 3) | 2, value.length) + value;
}

/** A frame of gRPC-Web: flags, length, content. */
function frame(flags, content) {
  const head = Buffer.alloc(5);
  head.writeUInt8(flags, 0);
  head.writeUInt32BE(content.length, 1);
  return Buffer.concat([head, content]);
}

/** The generated code, which is TypeScript, for this test. */
async function contract() {
  const { outputFiles } = await build({
    stdin: {
      contents: `export { create, toBinary } from "@bufbuild/protobuf"; export * from "./client/gen/consilium/v1/router_pb.js";`,
      resolveDir: new URL("../src", import.meta.url).pathname,
    },
    bundle: true,
    write: false,
    format: "esm",
    preserveSymlinks: true,
  });
  return import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString("base64")}`);
}
