// An application that traces LLM calls with the stock OpenTelemetry SDK for
// JavaScript. It is driven over standard input and says on standard output, as
// JSON lines, what it believes to have sent; ../README.md describes both.
// Everything about the exporter comes from the standard OTEL_* environment
// variables.

import { createInterface } from 'node:readline';
import {
  DiagConsoleLogger, DiagLogLevel, ROOT_CONTEXT, SpanKind, SpanStatusCode, TraceFlags,
  createTraceState, diag, trace,
} from '@opentelemetry/api';
import { OTLPTraceExporter as GrpcExporter } from '@opentelemetry/exporter-trace-otlp-grpc';
import { OTLPTraceExporter as JsonExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { OTLPTraceExporter as ProtoExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base';

const MODEL = 'claude-sonnet-4-5';
const MEBIBYTE = 1 << 20;
const protocol = process.env.OTEL_EXPORTER_OTLP_PROTOCOL;

const QUESTIONS = [
  'Summarise this thread for the on-call engineer, please. 🙏',
  '請把這份合約的付款條款整理成三點。',
  'Welche Flüge gibt’s am Samstag von Zürich nach Málaga (≤ 200 €)?',
  'Напиши вежливый отказ поставщику, не закрывая дверь.',
  'Fix this:\n```js\nconst x = a ?? b || c; // SyntaxError\n```',
  '“Smart quotes” — and — em dashes…',
  '🧑🏽‍🚀 → 🌍: how long does a signal take?',
];

const DOCUMENTS = [
  ['runbook/db.md', 'Fail over with `patronictl failover`; then check replication lag on both sides.'],
  ['runbook/queue.md', 'キューが詰まったら、まず消費者の数を確認する。'],
  ['contracts/payment.md', 'Net 30, 2 % discount within 10 days; interest of 8 points above base rate afterwards.'],
];

function say(kind, content) {
  process.stdout.write(`${JSON.stringify({ [kind]: content })}\n`);
}

// --- the account: what a span is in OTLP, taken from the SDK's own objects ---

// The encoders replace a lone half of a surrogate pair by U+FFFD, as UTF-8 demands.
const text = s => (s ?? '').toWellFormed();

function double(v) {
  // OTLP/JSON of this SDK has null where JSON has no number.
  if (protocol === 'http/json' && !Number.isFinite(v)) return {};
  const bits = new DataView(new ArrayBuffer(8));
  bits.setFloat64(0, v);
  return { double: bits.getBigUint64(0).toString(16).padStart(16, '0') };
}

function value(v) {
  if (typeof v === 'string') return { string: text(v) };
  if (typeof v === 'boolean') return { bool: v };
  if (typeof v === 'number') return Number.isInteger(v) ? { int: BigInt(v).toString() } : double(v);
  if (v instanceof Uint8Array) return { bytes: Buffer.from(v).toString('hex') };
  if (Array.isArray(v)) return { array: v.map(value) };
  if (v && typeof v === 'object') return { map: attributes(v) };
  return {};
}

function attributes(attrs) {
  return Object.entries(attrs ?? {}).map(([k, v]) => ({ key: text(k), value: value(v) }));
}

const nanos = ([s, ns]) => (BigInt(s) * 1_000_000_000n + BigInt(ns)).toString();

// W3C trace flags, and whether the context came from another process.
const flags = (context, remote) => (context.traceFlags & 0xff) | 0x100 | (remote ? 0x200 : 0);

function account(span) {
  const context = span.spanContext();
  const { name, version, schemaUrl, attributes: scopeAttributes } = span.instrumentationScope;
  return {
    trace_id: context.traceId,
    span_id: context.spanId,
    parent_span_id: span.parentSpanContext?.spanId ?? '',
    trace_state: context.traceState?.serialize() ?? '',
    flags: flags(context, span.parentSpanContext?.isRemote),
    name: text(span.name),
    kind: span.kind + 1,
    start: nanos(span.startTime),
    end: nanos(span.endTime),
    attributes: attributes(span.attributes),
    dropped_attributes: span.droppedAttributesCount,
    events: span.events.map(e => ({
      name: text(e.name), time: nanos(e.time), attributes: attributes(e.attributes),
      dropped_attributes: e.droppedAttributesCount ?? 0,
    })),
    dropped_events: span.droppedEventsCount,
    links: span.links.map(l => ({
      trace_id: l.context.traceId, span_id: l.context.spanId, trace_state: l.context.traceState?.serialize() ?? '',
      flags: flags(l.context, l.context.isRemote), attributes: attributes(l.attributes),
      dropped_attributes: l.droppedAttributesCount ?? 0,
    })),
    dropped_links: span.droppedLinksCount,
    status: { code: span.status.code, message: text(span.status.message) },
    scope: { name, version: version ?? '', schema_url: schemaUrl ?? '', attributes: attributes(scopeAttributes) },
    resource: { schema_url: span.resource.schemaUrl ?? '', attributes: attributes(span.resource.attributes) },
  };
}

// Ended counts the spans that ended, which is what should arrive, and puts
// values on them that the API does not take, as enriching processors do.
class Ended {
  count = 0;
  onStart() {}
  onEnd(span) {
    this.count++;
    if (span.name !== 'collections') return;
    Object.assign(span.attributes, {
      'array.mixed': ['a', 1, 2.5, true, null, new Uint8Array([0, 255])],
      'map.empty': {}, bytes: Uint8Array.from({ length: 256 }, (_, i) => i), 'bytes.empty': new Uint8Array(),
      message: {
        role: 'tool', parts: [{ type: 'text', text: '你好' }, { type: 'blob', data: new Uint8Array([0x89, 0x50]) }],
        usage: { input: 12, cost: 0.0004 },
      },
      deep: [[[[[['six']]]]]],
    });
  }
  async forceFlush() {}
  async shutdown() {}
}

// Recorder tells what becomes of each export of the stock exporter it wraps.
class Recorder {
  constructor(inner) { this.inner = inner; }
  export(spans, done) {
    say('attempt', spans.length);
    this.inner.export(spans, result => {
      if (result.code === 0) {
        for (const span of spans) say('span', account(span));
      } else {
        console.error(`export failed: ${result.error}`);
        say('failed', spans.length);
      }
      done(result);
    });
  }
  forceFlush() { return this.inner.forceFlush?.() ?? Promise.resolve(); }
  shutdown() { return this.inner.shutdown(); }
}

// --- what the application does ---

// inSpan runs body inside a new span and returns what it returns.
function inSpan(tracer, parent, name, options, body = () => {}) {
  const span = tracer.startSpan(name, options, parent);
  try {
    return body(span, trace.setSpan(parent, span));
  } finally {
    span.end();
  }
}

// turn is one turn of a conversation: a chain of ten spans.
function turn(tracer, n, previous) {
  const question = QUESTIONS[n % QUESTIONS.length];
  const options = {
    kind: SpanKind.SERVER,
    links: previous ? [{ context: previous, attributes: { 'gen_ai.conversation.relation': 'previous_turn' } }] : [],
    attributes: {
      'langsmith.span.kind': 'chain', 'gen_ai.conversation.id': `conv-${Math.floor(n / 4)}`, turn: n,
      'input.value': question, 'langsmith.metadata.tenant': 'smörgåsbord', tags: ['prod', 'assistant', '日本語'],
    },
  };
  return inSpan(tracer, ROOT_CONTEXT, 'assistant', options, (span, context) => {
    const documents = retrieve(tracer, context, question, n);
    const draft = chat(tracer, context, question, documents, n);
    const answer = tool(tracer, context, draft, n);
    inSpan(tracer, context, 'enqueue transcript', { kind: SpanKind.PRODUCER }, (producer, inProducer) => {
      producer.setAttribute('messaging.message.body.size', Buffer.byteLength(answer));
      inSpan(tracer, inProducer, 'store transcript', { kind: SpanKind.CONSUMER }, consumer => {
        consumer.addEvent('stored', { rows: 1 + (n % 3) });
      });
    });
    const final = chat(tracer, context, `${question}\n\n${answer}`, documents, n + 1);
    inSpan(tracer, context, 'moderate answer', { attributes: { flagged: false, categories: [] } });
    span.setAttribute('output.value', final);
    span.setStatus({ code: SpanStatusCode.OK });
    return span.spanContext();
  });
}

function retrieve(tracer, parent, question, n) {
  const attrs = { 'langsmith.span.kind': 'retriever', 'db.system': 'pgvector', 'retriever.query': question };
  return inSpan(tracer, parent, 'retrieve runbooks', { kind: SpanKind.CLIENT, attributes: attrs }, (_, context) => {
    inSpan(tracer, context, 'embeddings voyage-3', { kind: SpanKind.CLIENT }, span => {
      span.setAttribute('gen_ai.operation.name', 'embeddings');
      span.setAttribute('embedding.vector', Array.from({ length: 32 }, (_, i) => Math.sin(n + i + 1)));
      span.setAttribute('gen_ai.usage.input_tokens', Math.ceil(question.length / 4));
    });
    inSpan(tracer, context, 'rerank', {}, span => {
      DOCUMENTS.forEach(([source, content], i) => span.addEvent('document', { source, content, score: 1 / (i + 1.5) }));
    });
    return DOCUMENTS.map(([, content]) => content);
  });
}

function chat(tracer, parent, question, documents, n) {
  const system = `You are an assistant. Answer from the documents only.\n\n${documents.join('\n---\n')}`;
  // Cut at a fixed number of code units, as applications do: it may halve an emoji.
  const head = question.split('\n')[0].slice(0, 57);
  const completion = `${head} → (${n}) ${documents[n % documents.length].repeat(1 + (n % 4))}`;
  inSpan(tracer, parent, `chat ${MODEL}`, {
    kind: SpanKind.CLIENT,
    attributes: {
      'gen_ai.system': 'anthropic', 'gen_ai.operation.name': 'chat', 'langsmith.span.kind': 'llm',
      'gen_ai.request.model': MODEL, 'gen_ai.response.model': `${MODEL}-20260929`,
      'gen_ai.request.temperature': 0.2, 'gen_ai.request.max_tokens': 1024,
      'gen_ai.response.finish_reasons': ['end_turn'], 'gen_ai.response.id': `msg_${String(n).padStart(24, '0')}`,
      'gen_ai.prompt.0.role': 'system', 'gen_ai.prompt.0.content': system,
      'gen_ai.prompt.1.role': 'user', 'gen_ai.prompt.1.content': question,
      'gen_ai.completion.0.role': 'assistant', 'gen_ai.completion.0.content': completion,
      'gen_ai.usage.input_tokens': Math.ceil((system.length + question.length) / 4),
      'gen_ai.usage.output_tokens': Math.ceil(completion.length / 4),
    },
  }, span => span.addEvent('gen_ai.choice', { index: 0, finish_reason: 'end_turn' }));
  return completion;
}

function tool(tracer, parent, draft, n) {
  return inSpan(tracer, parent, 'execute_tool search_runbooks', {}, span => {
    span.setAttributes({
      'langsmith.span.kind': 'tool', 'gen_ai.tool.name': 'search_runbooks',
      'gen_ai.tool.call.arguments': JSON.stringify({ query: draft.slice(0, 40), top: n }), cached: n % 2 === 0,
    });
    if (n % 5 === 3) {
      span.recordException(new RangeError(`shard ${n} did not answer within 2 s`));
      span.setStatus({ code: SpanStatusCode.ERROR, message: `RangeError: shard ${n} ⏱` });
    }
    return JSON.stringify({ hits: n % 7 });
  });
}

// edges makes spans at the edges of what the format can carry.
function edges(provider) {
  const tracer = provider.getTracer('weir.interop.edges', '2.0.0-rc.1+π', {
    schemaUrl: 'https://opentelemetry.io/schemas/1.37.0',
  });
  inSpan(tracer, ROOT_CONTEXT, 'scalars', {}, span => span.setAttributes({
    'int.zero': 0, 'int.minus': -1, 'int.max': Number.MAX_SAFE_INTEGER, 'int.min': Number.MIN_SAFE_INTEGER,
    'int.beyond': 2 ** 53, 'double.tenth': 0.1, 'double.max': 1.5e-300, 'double.denormal': 5e-324,
    'double.nan': NaN, 'double.inf': Infinity, 'double.minus_inf': -Infinity, 'double.whole': 3.0,
    'bool.true': true, 'bool.false': false,
  }));
  inSpan(tracer, ROOT_CONTEXT, `text ${'näme '.repeat(2000)}`, {}, span => span.setAttributes({
    empty: '', nul: 'a\0b', controls: String.fromCharCode(...Array.from({ length: 31 }, (_, i) => i + 1), 127),
    quotes: '"\'`\\/<>&', zwj: '👩‍👩‍👧‍👦🏳️‍🌈', astral: '𝕳𝖊𝖑𝖑𝖔 𠜎', rtl: 'שלום עולם', combining: 'e\u0301 ≠ é',
    separators: 'a\u2028b\u2029c\ufeffd', last: '\u{10ffff}', 'ключ 🔑': 'key in Unicode', 'key with spaces ': ' value ',
    'halved.emoji': '😀'.slice(0, 1), 'halved.middle': `before${'😀'.slice(1)}after`,
  }));
  const context = inSpan(tracer, ROOT_CONTEXT, 'collections', {}, span => {
    span.setAttributes({
      'array.empty': [], 'array.bool': [true, false], 'array.int': [1, -2, 2 ** 53 - 1], 'array.double': [0.5, -0.25],
      'array.string': ['', 'a', '🙂'], 'array.holes': ['a', null, 'b'],
    });
    return span.spanContext();
  });
  const links = Array.from({ length: 140 }, (_, n) => ({ context, attributes: { n } }));
  inSpan(tracer, ROOT_CONTEXT, 'over the limits', { links }, span => {
    for (let i = 0; i < 140; i++) {
      span.setAttribute(`attribute.${i}`, i);
      const keys = i === 139 ? 130 : 1;
      span.addEvent(`event ${i}`, Object.fromEntries(Array.from({ length: keys }, (_, k) => [`key.${k}`, k])));
    }
  });
  timesAndParents(tracer);
  inSpan(tracer, ROOT_CONTEXT, 'one mebibyte', {}, span => {
    span.setAttribute('gen_ai.completion.0.content', bigText(MEBIBYTE));
  });
}

function timesAndParents(tracer) {
  const now = Math.floor(Date.now() / 1000);
  tracer.startSpan('three hours ago', { startTime: [now - 3 * 3600, 1] }, ROOT_CONTEXT).end([now - 2 * 3600, 7]);
  tracer.startSpan('', { startTime: [now, 999_999_999] }, ROOT_CONTEXT).end([now, 999_999_999]);
  for (const kind of [SpanKind.INTERNAL, SpanKind.SERVER, SpanKind.CLIENT, SpanKind.PRODUCER, SpanKind.CONSUMER]) {
    tracer.startSpan(`kind ${SpanKind[kind]}`, { kind }, ROOT_CONTEXT).end();
  }
  const remote = {
    traceId: '0af7651916cd43dd8448eb211c80319c', spanId: '00f067aa0ba902b7', isRemote: true,
    traceFlags: TraceFlags.SAMPLED, traceState: createTraceState('rojo=00f067aa0ba902b7,congo=t61rcWkgMzE'),
  };
  const options = { links: [{ context: remote, attributes: { why: 'remote' } }] };
  inSpan(tracer, trace.setSpanContext(ROOT_CONTEXT, remote), 'under a remote parent', options, span => {
    span.setStatus({ code: SpanStatusCode.ERROR, message: 'ошибка: не найдено 🚫' });
  });
}

// bigText returns text of at least that many bytes in UTF-8 that repeats itself little.
function bigText(size) {
  const parts = [];
  let total = 0;
  for (let state = 12345; total < size;) {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    const part = `${state.toString(16)} ${String.fromCodePoint(0x4e00 + (state % 0x5000), 0x1f600 + (state % 64))} `;
    parts.push(part);
    total += Buffer.byteLength(part);
  }
  return parts.join('');
}

// exporter is the stock exporter that OTEL_EXPORTER_OTLP_PROTOCOL names.
function exporter() {
  switch (protocol) {
    case 'grpc': return new GrpcExporter();
    case 'http/protobuf': return new ProtoExporter();
    case 'http/json': return new JsonExporter();
    default: throw new Error(`OTEL_EXPORTER_OTLP_PROTOCOL is ${protocol}; this SDK has grpc, http/protobuf and http/json`);
  }
}

diag.setLogger(new DiagConsoleLogger(), DiagLogLevel.WARN);
const ended = new Ended();
const provider = new BasicTracerProvider({
  resource: resourceFromAttributes({
    'service.name': 'assistant-js', 'service.version': '3.1.0', 'deployment.environment.name': 'prüfung',
    'process.command_args': ['node', 'server.mjs'], 'host.cpus': 8,
  }, { schemaUrl: 'https://opentelemetry.io/schemas/1.37.0' }),
  spanProcessors: [ended, new BatchSpanProcessor(new Recorder(exporter()))],
});
const tracer = provider.getTracer('assistant', '3.1.0');
let turns = 0;
let previous;
for await (const line of createInterface({ input: process.stdin })) {
  const [command, count] = line.trim().split(/\s+/);
  switch (command) {
    case 'emit':
      for (let i = 0; i < Number(count); i++) previous = turn(tracer, turns++, previous);
      break;
    case 'traces':
      for (let i = 0; i < Number(count); i++) {
        const root = tracer.startSpan('small', {}, ROOT_CONTEXT);
        tracer.startSpan('part', {}, trace.setSpan(ROOT_CONTEXT, root)).end();
        root.end();
      }
      break;
    case 'edges':
      edges(provider);
      break;
    case 'flush':
      // It rejects when an export failed, which Recorder has told already.
      await provider.forceFlush().catch(() => {});
      say('flushed', ended.count);
      break;
    default:
      throw new Error(`what is ${JSON.stringify(line)}? Known are: emit N, traces N, edges, flush`);
  }
}
await provider.shutdown();
