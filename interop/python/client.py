"""An application that traces LLM calls with the stock OpenTelemetry SDK for Python.

It is driven over standard input and says on standard output, as JSON lines,
what it believes to have sent; ../README.md describes both. Everything about
the exporter comes from the standard OTEL_* environment variables.
"""

from __future__ import annotations

import json
import math
import os
import struct
import sys
import threading
import time
from collections.abc import Mapping, Sequence

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

MODEL = "gpt-4.1-mini"
MEBIBYTE = 1 << 20

QUESTIONS = [
    "Where is my order 4411? It was promised for Tuesday — it's Friday. 😠",
    "東京から大阪までの新幹線の予約を変更したいのですが、手数料はかかりますか？",
    "¿Puedo devolver los auriculares si ya abrí la caja? Gracias de antemano.",
    "هل يمكنني تغيير عنوان الشحن بعد الدفع؟",
    "Compare plan “Team” with plan “Business”:\n\t• seats\n\t• SSO\n\t• audit log",
    "Die Rechnung für März enthält 19 % USt., wir sind aber reverse-charge-pflichtig.",
    "👩‍👩‍👧‍👦 family plan — what does it cost for 🇨🇭 residents?",
]

DOCUMENTS = [
    ("kb/returns.md", "Opened boxes can be returned within 30 days; the refund goes to the original payment method."),
    ("kb/shipping.md", "Parcels that are three days late are traced with the carrier automatically. 追跡番号はメールで届きます。"),
    ("kb/billing.md", "Reverse charge applies where the customer has a valid VAT id; see “Invoices → Tax”."),
]

_print_lock = threading.Lock()


def say(kind: str, content: object) -> None:
    """Print one line of the account; called from the exporter's thread, too."""
    with _print_lock:
        json.dump({kind: content}, sys.stdout, separators=(",", ":"))
        sys.stdout.write("\n")
        sys.stdout.flush()


# --- the account: what a span is in OTLP, taken from the SDK's own objects ---


def value(v: object) -> dict:
    if v is None:
        return {}
    if isinstance(v, bool):
        return {"bool": v}
    if isinstance(v, str):
        return {"string": v}
    if isinstance(v, int):
        return {"int": str(v)}
    if isinstance(v, float):
        return {"double": struct.pack(">d", v).hex()}
    if isinstance(v, bytes):
        return {"bytes": v.hex()}
    if isinstance(v, Mapping):
        return {"map": attributes(v)}
    if isinstance(v, Sequence):
        return {"array": [value(e) for e in v]}
    raise TypeError(f"no OTLP value for {type(v)}")


def attributes(attrs: Mapping | None) -> list:
    return [{"key": k, "value": value(v)} for k, v in (attrs or {}).items()]


def flags(parent: SpanContext | None) -> int:
    """The SDK sends whether the parent is remote, and no W3C flags."""
    return 0x100 | (0x200 if parent is not None and parent.is_remote else 0)


def account(span: ReadableSpan) -> dict:
    ctx, scope = span.get_span_context(), span.instrumentation_scope
    return {
        "trace_id": f"{ctx.trace_id:032x}",
        "span_id": f"{ctx.span_id:016x}",
        "parent_span_id": f"{span.parent.span_id:016x}" if span.parent else "",
        "trace_state": ctx.trace_state.to_header() if ctx.trace_state else "",
        "flags": flags(span.parent),
        "name": span.name,
        "kind": span.kind.value + 1,
        "start": str(span.start_time),
        "end": str(span.end_time),
        "attributes": attributes(span.attributes),
        "dropped_attributes": span.dropped_attributes,
        "events": [
            {"name": e.name, "time": str(e.timestamp), "attributes": attributes(e.attributes),
             "dropped_attributes": e.dropped_attributes}
            for e in span.events
        ],
        "dropped_events": span.dropped_events,
        "links": [
            # The exporter leaves a link's trace state out.
            {"trace_id": f"{l.context.trace_id:032x}", "span_id": f"{l.context.span_id:016x}", "trace_state": "",
             "flags": flags(l.context), "attributes": attributes(l.attributes),
             "dropped_attributes": l.dropped_attributes}
            for l in span.links
        ],
        "dropped_links": span.dropped_links,
        "status": {"code": span.status.status_code.value, "message": span.status.description or ""},
        "scope": {"name": scope.name, "version": scope.version or "", "schema_url": scope.schema_url or "",
                  "attributes": attributes(scope.attributes)},
        "resource": {"schema_url": span.resource.schema_url or "", "attributes": attributes(span.resource.attributes)},
    }


class Ended(SpanProcessor):
    """Counts the spans that ended, which is what should arrive."""

    def __init__(self) -> None:
        self.count = 0

    def on_end(self, span: ReadableSpan) -> None:
        self.count += 1


class Recorder(SpanExporter):
    """Tells what becomes of each export of the stock exporter that it wraps."""

    def __init__(self, inner: SpanExporter) -> None:
        self.inner = inner

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        say("attempt", len(spans))
        result = self.inner.export(spans)
        if result is SpanExportResult.SUCCESS:
            for span in spans:
                say("span", account(span))
        else:
            say("failed", len(spans))
        return result

    def shutdown(self) -> None:
        self.inner.shutdown()


# --- what the application does ---


def turn(tracer: trace.Tracer, n: int, previous: SpanContext | None) -> SpanContext:
    """One turn of a support conversation: a chain of ten spans."""
    question = QUESTIONS[n % len(QUESTIONS)]
    links = [Link(previous, {"gen_ai.conversation.relation": "previous_turn"})] if previous else []
    root = tracer.start_as_current_span(
        "support-agent", kind=SpanKind.SERVER, links=links,
        attributes={
            "langsmith.span.kind": "chain", "gen_ai.conversation.id": f"conv-{n // 4:04d}", "turn": n,
            "input.value": question, "langsmith.metadata.tenant": "café-münchen", "tags": ["prod", "support", "日本語"],
        },
    )
    with root as span:
        documents = retrieve(tracer, question, n)
        draft = chat(tracer, question, documents, n)
        answer = tool_call(tracer, draft, n)
        with tracer.start_as_current_span("enqueue transcript", kind=SpanKind.PRODUCER) as producer:
            producer.set_attribute("messaging.message.body.size", len(answer.encode()))
            with tracer.start_as_current_span("store transcript", kind=SpanKind.CONSUMER) as consumer:
                consumer.add_event("stored", {"rows": 1 + n % 3})
        final = chat(tracer, question + "\n\n" + answer, documents, n + 1)
        with tracer.start_as_current_span("moderate answer") as moderate:
            moderate.set_attributes({"flagged": False, "categories": []})
        span.set_attribute("output.value", final)
        span.set_status(Status(StatusCode.OK))
        return span.get_span_context()


def retrieve(tracer: trace.Tracer, question: str, n: int) -> list[str]:
    with tracer.start_as_current_span("retrieve knowledge", kind=SpanKind.CLIENT) as span:
        span.set_attributes({"langsmith.span.kind": "retriever", "db.system": "qdrant", "retriever.query": question})
        with tracer.start_as_current_span("embeddings text-embedding-3-small", kind=SpanKind.CLIENT) as embed:
            embed.set_attribute("gen_ai.operation.name", "embeddings")
            embed.set_attribute("embedding.vector", [math.sin(n + i) for i in range(32)])
            embed.set_attribute("gen_ai.usage.input_tokens", len(question) // 4)
        with tracer.start_as_current_span("rerank") as rerank:
            for i, (source, text) in enumerate(DOCUMENTS):
                rerank.add_event("document", {"source": source, "content": text, "score": 1 / (i + 1.5)})
        return [text for _, text in DOCUMENTS]


def chat(tracer: trace.Tracer, question: str, documents: list[str], n: int) -> str:
    system = "You are a support agent. Answer from the documents only.\n\n" + "\n---\n".join(documents)
    completion = f"{question.splitlines()[0][:60]} → Here is what I found ({n}): " + documents[n % len(documents)] * (1 + n % 4)
    with tracer.start_as_current_span(f"chat {MODEL}", kind=SpanKind.CLIENT) as span:
        span.set_attributes({
            "gen_ai.system": "openai", "gen_ai.operation.name": "chat", "langsmith.span.kind": "llm",
            "gen_ai.request.model": MODEL, "gen_ai.response.model": MODEL + "-2026-04-14",
            "gen_ai.request.temperature": 0.2, "gen_ai.request.max_tokens": 1024,
            "gen_ai.response.finish_reasons": ["stop"], "gen_ai.response.id": f"chatcmpl-{n:024x}",
            "gen_ai.prompt.0.role": "system", "gen_ai.prompt.0.content": system,
            "gen_ai.prompt.1.role": "user", "gen_ai.prompt.1.content": question,
            "gen_ai.completion.0.role": "assistant", "gen_ai.completion.0.content": completion,
            "gen_ai.usage.input_tokens": (len(system) + len(question)) // 4,
            "gen_ai.usage.output_tokens": len(completion) // 4,
        })
        span.add_event("gen_ai.choice", {"index": 0, "finish_reason": "stop"})
    return completion


def tool_call(tracer: trace.Tracer, draft: str, n: int) -> str:
    arguments = json.dumps({"order": 4411 + n, "note": draft[:40]}, ensure_ascii=False)
    with tracer.start_as_current_span("execute_tool lookup_order", record_exception=False) as span:
        span.set_attributes({"langsmith.span.kind": "tool", "gen_ai.tool.name": "lookup_order",
                             "gen_ai.tool.call.arguments": arguments, "cached": n % 2 == 0})
        if n % 5 == 3:
            try:
                raise TimeoutError(f"order service did not answer within 2 s (“{n}”)")
            except TimeoutError as error:
                span.record_exception(error)
                span.set_status(Status(StatusCode.ERROR, f"TimeoutError: {error} ⏱"))
        return json.dumps({"status": "in transit", "eta_days": n % 7})


def edges(provider: TracerProvider) -> None:
    """Spans at the edges of what the format can carry."""
    tracer = provider.get_tracer("weir.interop.edges", "2.0.0-rc.1+π", "https://opentelemetry.io/schemas/1.37.0",
                                 {"scope.attribute": "ja 🙂", "scope.number": 7})
    with tracer.start_as_current_span("scalars") as span:
        span.set_attributes({
            "int.zero": 0, "int.minus": -1, "int.max": 2**63 - 1, "int.min": -(2**63),
            "double.tenth": 0.1, "double.minus_zero": -0.0, "double.max": 1.7976931348623157e308,
            "double.denormal": 5e-324, "double.nan": math.nan, "double.inf": math.inf, "double.minus_inf": -math.inf,
            "double.whole": 3.0, "bool.true": True, "bool.false": False, "none": None,
        })
    with tracer.start_as_current_span("text " + "näme " * 2000) as span:
        span.set_attributes({
            "empty": "", "nul": "a\x00b", "controls": "".join(map(chr, range(1, 32))) + "\x7f", "quotes": "\"'`\\/<>&",
            "zwj": "👩‍👩‍👧‍👦🏳️‍🌈", "astral": "𝕳𝖊𝖑𝖑𝖔 𠜎", "rtl": "שלום עולם", "combining": "e\u0301 ≠ é",
            "separators": "a\u2028b\u2029c\ufeffd", "last": "\U0010ffff", "ключ 🔑": "key in Unicode", "key with spaces ": " value ",
        })
    with tracer.start_as_current_span("collections") as span:
        span.set_attributes({
            "array.empty": [], "array.bool": [True, False], "array.int": [1, -2, 2**53 + 1], "array.double": [0.5, -0.25],
            "array.string": ["", "a", "🙂"], "array.mixed": ["a", 1, 2.5, True, None, b"\x00\xff"],
            "map.empty": {}, "bytes": bytes(range(256)), "bytes.empty": b"",
            "message": {"role": "tool", "parts": [{"type": "text", "text": "你好"}, {"type": "blob", "data": b"\x89PNG"}],
                        "usage": {"input": 12, "cost": 0.0004}},
            "deep": [[[[[["six"]]]]]],
        })
        span.add_event("nested event", {"payload": {"a": [1, {"b": "c"}]}})
    context = span.get_span_context()
    links = [Link(context, {"n": i}) for i in range(140)]
    with tracer.start_as_current_span("over the limits", links=links) as span:
        for i in range(140):
            span.set_attribute(f"attribute.{i:03d}", i)
            span.add_event(f"event {i}", {f"key.{k:03d}": k for k in range(130 if i == 139 else 1)})
    times_and_parents(tracer)
    with tracer.start_as_current_span("one mebibyte") as span:
        span.set_attribute("gen_ai.completion.0.content", big_text(MEBIBYTE))


def times_and_parents(tracer: trace.Tracer) -> None:
    now = time.time_ns()
    tracer.start_span("three hours ago", start_time=now - 3 * 3600 * 10**9 + 1).end(now - 2 * 3600 * 10**9 + 7)
    tracer.start_span("", start_time=now).end(now)
    for kind in SpanKind:
        tracer.start_span(f"kind {kind.name}", kind=kind).end()
    remote = SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 0x00F067AA0BA902B7, is_remote=True,
                         trace_flags=TraceFlags(1), trace_state=TraceState([("rojo", "00f067aa0ba902b7"), ("congo", "t61rcWkgMzE")]))
    parent = trace.set_span_in_context(trace.NonRecordingSpan(remote))
    with tracer.start_as_current_span("under a remote parent", context=parent, links=[Link(remote, {"why": "remote"})]) as span:
        span.set_status(Status(StatusCode.ERROR, "ошибка: не найдено 🚫"))


def big_text(size: int) -> str:
    """Text of at least that many bytes in UTF-8 that repeats itself little."""
    parts, total, state = [], 0, 12345
    while total < size:
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        part = f"{state:x} {chr(0x4E00 + state % 0x5000)}{chr(0x1F600 + state % 64)} "
        parts.append(part)
        total += len(part.encode())
    return "".join(parts)


def exporter() -> SpanExporter:
    """The stock exporter that OTEL_EXPORTER_OTLP_PROTOCOL names."""
    protocol = os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"]
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    elif protocol == "http/protobuf":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    else:
        sys.exit(f"client.py: OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}; this SDK has grpc and http/protobuf")
    return OTLPSpanExporter()


def main() -> None:
    provider = TracerProvider(resource=Resource.create(
        {"service.name": "support-bot-py", "service.version": "1.4.2", "deployment.environment.name": "prüfung",
         "process.command_args": ["python", "-m", "bot"], "host.cpus": 8},
        schema_url="https://opentelemetry.io/schemas/1.37.0",
    ))
    ended = Ended()
    provider.add_span_processor(ended)
    provider.add_span_processor(BatchSpanProcessor(Recorder(exporter())))
    tracer, previous, turns = provider.get_tracer("support.bot", "1.4.2"), None, 0
    for line in sys.stdin:
        match line.split():
            case ["emit", count]:
                for _ in range(int(count)):
                    previous = turn(tracer, turns, previous)
                    turns += 1
            case ["traces", count]:
                for _ in range(int(count)):
                    with tracer.start_as_current_span("small"), tracer.start_as_current_span("part"):
                        pass
            case ["edges"]:
                edges(provider)
            case ["flush"]:
                provider.force_flush(60_000)
                say("flushed", ended.count)
            case _:
                sys.exit(f"client.py: what is {line!r}? Known are: emit N, traces N, edges, flush")
    provider.shutdown()


if __name__ == "__main__":
    main()
