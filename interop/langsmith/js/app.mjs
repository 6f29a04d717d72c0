// An application that traces with the stock LangSmith SDK for JavaScript. It
// speaks as ../python/app.py does: names of scenarios on standard input, and
// {"done": NAME} on standard output once a scenario is played and flushed.
// LANGSMITH_* variables alone set it up (README.md).
import { createInterface } from "node:readline";
import { Client, RunTree } from "langsmith";
import { evaluate } from "langsmith/evaluation";
import { getCurrentRunTree, traceable } from "langsmith/traceable";

const otel = process.env.LANGSMITH_TRACING_MODE === "otel" && (await import("langsmith/experimental/otel/setup")).initializeOTEL();
const client = new Client();

let count = 0;

// chosen is an id that the application chose; the tests know it by its beginning.
const chosen = (n) => `00000000-0000-4000-8000-${(count * 0x1000 + n).toString(16).padStart(12, "0")}`;

const traced = (name, fn, config = {}) => traceable(fn, { name, client, ...config });

// --- traceable functions, nested ---

class Order {
  constructor(number) {
    this.number = number;
    this.placed = new Date(Date.UTC(2026, 0, 2, 3, 4, 5, 6));
  }
}

const embed = traced("embed query", async (text) => [text.length / 7, -0, 1e-9, 1.5e300, 2 ** 53], { run_type: "embedding" });
const retrieve = traced(
  "retrieve knowledge",
  async (question, k) => {
    await embed(question);
    return [
      { page_content: "追跡番号はメールで届きます。", metadata: { source: "kb/shipping.md", score: 0.875 } },
      { page_content: "Reverse charge: see “Invoices → Tax” <b>&amp;</b>", metadata: { score: k } },
    ].slice(0, k);
  },
  { run_type: "retriever" },
);
const lookup = traced(
  "lookup order",
  async (order, channel) => ({
    status: "in transit", order, channel, none: null, missing: undefined, nan: NaN, infinite: Infinity,
    map: new Map([["a", 1]]), set: new Set(["b"]), bytes: new Uint8Array([0, 255]), fn: () => 1, lone: "\ud83d",
  }),
  { run_type: "tool", tags: ["orders", "日本語"], metadata: { cached: false, retries: 0 } },
);
const chat = traced(
  "chat gpt-4.1-mini",
  async ({ messages }) => {
    const current = getCurrentRunTree();
    current.metadata = { attempt: 1 };
    return {
      choices: [{ message: { role: "assistant", content: `ok 🙂 ${messages.length}` } }],
      usage_metadata: { input_tokens: 12, output_tokens: 2, total_tokens: 14 },
    };
  },
  { run_type: "llm", metadata: { ls_provider: "openai", ls_model_name: "gpt-4.1-mini" } },
);
const parse = traced("parse answer", (answer) => answer.choices[0].message, {
  run_type: "parser",
  processOutputs: (o) => ({ parsed: o.content, by: "processOutputs" }),
});
const answer = async ({ question }) => {
  const documents = await retrieve(question, 2);
  await lookup(new Order(7), "mail");
  const controls = "controls \u0000\u0001\u007f \u2028 end";
  return parse(await chat({ messages: [{ role: "system", content: controls }, ...documents, { role: "user", content: question }] }));
};

async function nested() {
  const hide = (inputs) => ({ ...inputs, secret: "***" });
  await traced("answer ticket", answer, { id: chosen(1), processInputs: hide })({ question: "Wo bleibt mein Paket? 🙂", secret: "hunter2" });
  await traced("answer ticket", answer, { id: chosen(2), project_name: "another project" })({ question: "" });
  await traced("answer ticket", answer, { id: chosen(3) })({ question: "long ".repeat(60_000) });
}

// many makes enough runs for several requests.
async function many() {
  const step = traced("step", async (input) => input.n);
  const sweep = traced("sweep", async (input) => {
    let sum = 0;
    for (let n = 0; n < input.count; n++) sum += await step({ n, text: `${n.toString(16)} `.repeat(200) });
    return sum;
  }, { id: chosen(1) });
  await sweep({ count: 250 });
}

// --- async, streaming, errors ---

async function concurrent() {
  const root = traced("async root", async () => {
    const branches = [0, 1, 2, 3].map((n) =>
      traced(`branch ${n}`, async () => {
        await Promise.all([0, 1, 2].map((i) => traced(`chat ${n}.${i}`, async (at) => {
          await new Promise((resolve) => setTimeout(resolve, at.ms));
          return at;
        }, { run_type: "llm" })({ ms: (n * 3 + i) % 4 })));
        return n;
      })());
    return Promise.all(branches);
  }, { id: chosen(1) });
  await root();
}

async function streaming() {
  const tokens = traced("stream tokens", async function* (text) {
    for (const word of text.split(" ")) yield `${word} `;
  }, { run_type: "llm", aggregator: (parts) => ({ text: parts.join("") }) });
  const breaks = traced("stream that breaks", async function* () {
    yield "first";
    throw new Error("stream cut off “here”");
  });
  const root = traced("streams", async () => {
    for await (const _ of tokens("viele kleine Wörter 🙂"));
    try {
      for await (const _ of breaks());
    } catch {
      // as expected
    }
    return "streamed";
  }, { id: chosen(1) });
  await root();
}

async function errors() {
  class OrderNotFound extends Error {}
  const fails = traced("fails", async (n) => {
    throw new OrderNotFound(`no order ${n}: “ошибка” 🚫\nsecond line\t\u001b[31mred`);
  }, { run_type: "tool" });
  const root = traced("fails through", async () => {
    await fails(0).catch(() => {});
    await fails(1).catch(() => {});
    await fails(2);
  }, { id: chosen(1) });
  await root().catch(() => {});
  await traced("throws no error", async () => {
    throw "a string";
  })().catch(() => {});
}

// --- attachments, feedback, hand-made runs ---

// content is bytes that compress badly, the same each time.
function content(size, seed) {
  const out = Buffer.alloc(size);
  for (let i = 0, state = seed; i + 4 <= size; i += 4) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    out.writeUInt32BE(state, i);
  }
  return new Uint8Array(out);
}

async function attachments() {
  const describe = traced("describe image", async ({ question }) => question.length, {
    id: chosen(1),
    extractAttachments: ({ image, crlf, ...rest }) => [
      { image: { mimeType: "image/png", data: image }, crlf: ["text/plain", crlf], empty: ["application/octet-stream", new Uint8Array()] },
      rest,
    ],
  });
  await describe({ question: "what is this?", image: content(2 << 20, 1), crlf: Buffer.from("--boundary\r\n\r\n--\r\n".repeat(50)) });
}

async function feedback() {
  const rated = traced("rated", async (text) => text.toUpperCase(), { id: chosen(1) });
  await rated("so là là");
  await client.awaitPendingTraceBatches();
  const project = await client.readProject({ projectName: process.env.LANGSMITH_PROJECT });
  const common = { runId: chosen(1), sessionId: project.id };
  await client.createFeedback({ ...common, key: "correctness", score: 0.98765432, feedbackId: chosen(2), comment: "gut – très bien 👍", sourceInfo: { reviewer: "ja" } });
  await client.createFeedback({ ...common, traceId: chosen(1), key: "category", value: { label: "à côté", n: 3 }, feedbackId: chosen(3), correction: { output: "SO LÀ LÀ" }, score: true });
  await client.awaitPendingTraceBatches();
  await client.updateFeedback(chosen(2), { score: 0.5, comment: "changed" });
}

async function byHand() {
  const start = Date.now();
  const root = new RunTree({ name: "tree root", run_type: "chain", inputs: { q: "?" }, id: chosen(1), client, start_time: start, extra: { metadata: { made: "by hand" } }, tags: ["hand"] });
  await root.postRun();
  const child = root.createChild({ name: "tree child", run_type: "llm", id: chosen(2), inputs: { messages: [] }, start_time: start });
  await child.postRun();
  await child.end({ generations: [[{ text: "x" }]] }, undefined, start + 5);
  await child.patchRun();
  await root.end({ a: "!" }, undefined, start + 6);
  await root.patchRun();
  const late = new RunTree({ name: "ends late", run_type: "chain", inputs: {}, id: chosen(4), client, start_time: start });
  await late.postRun();
  await client.awaitPendingTraceBatches();
  await late.end({ late: true }, "ended badly", start + 7);
  await late.patchRun();
  await new RunTree({ name: "never ends", run_type: "chain", inputs: {}, id: chosen(5), client, start_time: start }).postRun();
  // A run without trace id and dotted order goes by POST /runs, PATCH /runs/{id}.
  await client.createRun({ id: chosen(6), name: "posted alone", run_type: "tool", inputs: { n: 1 }, project_name: "single runs", start_time: start });
  await client.updateRun(chosen(6), { outputs: { n: 2 }, end_time: start + 8 });
}

async function evaluation() {
  const dataset = await client.createDataset(`capitals ${count}`);
  const rows = [["Österreich", "Wien"], ["日本", "東京"], ["Peru", "Lima"]];
  for (const [n, [country, capital]] of rows.entries()) {
    // Not by the client, which needs a call that the look-alike does not have.
    const made = await fetch(`${process.env.LANGSMITH_ENDPOINT}/examples`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-api-key": process.env.LANGSMITH_API_KEY },
      body: JSON.stringify({ dataset_id: dataset.id, id: chosen(0x100 + n), inputs: { country }, outputs: { capital }, metadata: { n } }),
    });
    if (!made.ok) throw new Error(`POST /examples: ${made.status} ${await made.text()}`);
  }
  const guess = traced("guess", async ({ country }) => ({ Österreich: "Wien", 日本: "東京" })[country] ?? "?", { run_type: "llm" });
  const log = console.log;
  console.log = () => {}; // it prints a link
  const results = await evaluate(async (inputs) => ({ capital: await guess(inputs) }), {
    data: dataset.name, client, experimentPrefix: "capitals", maxConcurrency: 1, metadata: { variant: "a" },
    evaluators: [({ outputs, referenceOutputs }) => ({ key: "exact", score: outputs.capital === referenceOutputs.capital, comment: "Länge" })],
  });
  console.log = log;
  if (results.results.length !== rows.length) throw new Error(`${results.results.length} results`);
}

// small makes so many traces of two runs each.
async function small(traces) {
  const part = traced("part", async ({ n }) => n, { run_type: "tool" });
  const whole = traced("small", async ({ n }) => part({ n }));
  for (let n = 0; n < traces; n++) await whole({ n });
}

const scenarios = {
  nested, many, async: concurrent, streaming, errors, attachments, feedback, "by hand": byHand, evaluate: evaluation,
};

// The SDK's timers let a process end, even one that waits for a flush.
const alive = setInterval(() => {}, 1000);
for await (const line of createInterface({ input: process.stdin })) {
  count++;
  if (line.startsWith("traces ")) await small(Number(line.slice("traces ".length)));
  else if (scenarios[line]) await scenarios[line]();
  else throw new Error(`app.mjs: what is ${JSON.stringify(line)}? Known are: traces N, ${Object.keys(scenarios).join(", ")}`);
  await client.awaitPendingTraceBatches();
  if (otel) await otel.DEFAULT_LANGSMITH_SPAN_PROCESSOR.forceFlush();
  process.stdout.write(`${JSON.stringify({ done: line })}\n`);
}
clearInterval(alive);
