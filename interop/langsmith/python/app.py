"""An application that traces with the stock LangSmith SDK for Python.

It reads the names of scenarios from standard input, a line each, plays one and
flushes, then prints {"done": NAME}. It ends when its input does. The same
scenario has the same structure, inputs and outputs each time it is played;
what differs, ids and times above all, is the SDK's own. LANGSMITH_* variables
alone set it up (README.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
import pathlib
import sys
import uuid
import warnings
from concurrent.futures import wait
from dataclasses import dataclass
from datetime import date, datetime, timezone
from decimal import Decimal
from enum import Enum
from typing import Any

from langsmith import RunTree, agent_address, evaluate, get_current_run_tree, trace, traceable, tracing_context
from langsmith.run_trees import get_cached_client
from langsmith.schemas import Attachment
from langsmith.utils import ContextThreadPoolExecutor

HERE = pathlib.Path(__file__).parent


def chosen(n: int) -> uuid.UUID:
    """An id that the application chose; the tests know it by its beginning."""
    return uuid.UUID(f"00000000-0000-4000-8000-{n:012x}")


class Played:
    """Counts how often scenarios were played, so that each time has ids of its own."""

    def __init__(self) -> None:
        self.count = 0

    def ids(self) -> int:
        return self.count * 0x1000


played = Played()


# --- traceable functions, nested ---


@dataclass
class Order:
    number: int
    placed: datetime
    lines: list[str]


class Channel(Enum):
    CHAT = "chat"
    MAIL = "mail"


class Opaque:
    def __repr__(self) -> str:
        return "<opaque>"


@traceable(run_type="embedding", name="embed query")
def embed(text: str) -> list[float]:
    return [len(text) / 7, -0.0, 1e-9, 1.5e300, float(2**53)]


@traceable(run_type="retriever", name="retrieve knowledge")
def retrieve(question: str, k: int = 3) -> list[dict]:
    embed(question)
    return [
        {"page_content": "追跡番号はメールで届きます。", "type": "Document", "metadata": {"source": "kb/shipping.md", "score": 0.875}},
        {"page_content": "Reverse charge: see “Invoices → Tax” <b>&amp;</b>", "type": "Document", "metadata": {"score": k}},
    ][:k]


@traceable(run_type="tool", name="lookup order", tags=["orders", "日本語"], metadata={"cached": False, "retries": 0})
def lookup(order: Order, channel: Channel, opaque: Any) -> dict:
    return {"status": "in transit", "order": order, "channel": channel, "opaque": opaque,
            "when": date(2026, 1, 2), "price": Decimal("19.99"), "raw": b"\x00\xff", "tags": {"a"}, "none": None,
            "big": 2**63 - 1, "nan": float("nan"), "path": pathlib.PurePosixPath("/srv/orders")}


@traceable(run_type="prompt", name="render prompt")
def render(question: str, documents: list[dict]) -> str:
    return "\n---\n".join(d["page_content"] for d in documents) + "\n\n" + question


@traceable(run_type="llm", name="chat gpt-4.1-mini", metadata={"ls_provider": "openai", "ls_model_name": "gpt-4.1-mini"})
def chat(messages: list[dict], temperature: float = 0.2) -> dict:
    current = get_current_run_tree()
    current.add_metadata({"attempt": 1})
    current.add_tags(["late tag"])
    current.add_event({"name": "new_token", "time": "2026-01-02T03:04:05.000006+00:00", "kwargs": {"token": "Ja"}})
    return {"choices": [{"message": {"role": "assistant", "content": "ok \ud83d\ude42".encode("utf-16", "surrogatepass").decode("utf-16")}}],
            "usage_metadata": {"input_tokens": 12, "output_tokens": 2, "total_tokens": 14}}


@traceable(run_type="parser", name="parse answer", process_outputs=lambda o: {"parsed": o["content"], "by": "process_outputs"})
def parse(answer: dict) -> dict:
    return answer["choices"][0]["message"]


@traceable(name="answer ticket", process_inputs=lambda i: {**i, "secret": "***"})
def answer_ticket(question: str, secret: str, *args: Any, **kwargs: Any) -> dict:
    documents = retrieve(question, k=2)
    prompt = render(question, documents)
    lookup(Order(7, datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone.utc), ["a", "ü"]), Channel.MAIL, Opaque())
    with trace("moderate", "chain", inputs={"prompt": prompt}, tags=["context manager"], metadata={"strict": True}) as run:
        run.end(outputs={"flagged": False, "categories": []})
    answer = chat([{"role": "system", "content": "controls \x00\x01\x7f \u2028 end"}, {"role": "user", "content": prompt}])
    return parse(answer, langsmith_extra={"metadata": {"from": "langsmith_extra"}, "tags": ["extra"], "name": "parse named late"})


def nested() -> None:
    first = played.ids()
    answer_ticket("Wo bleibt mein Paket? 🙂", "hunter2", 1, "two", kwarg={"nested": {"empty": {}, "list": []}},
                  langsmith_extra={"run_id": chosen(first + 1)})
    answer_ticket("", "x", langsmith_extra={"run_id": chosen(first + 2), "project_name": "another project"})
    answer_ticket("long " * 60_000, "x", langsmith_extra={"run_id": chosen(first + 3)})


def many() -> None:
    """Enough runs for several requests."""

    @traceable(name="step")
    def step(n: int, text: str) -> int:
        return n

    @traceable(name="sweep")
    def sweep(count: int) -> int:
        return sum(step(n, f"{n:x} " * 200) for n in range(count))

    sweep(250, langsmith_extra={"run_id": chosen(played.ids() + 1)})


# --- threads, async, streaming, errors ---


def threads() -> None:
    @traceable(run_type="tool", name="worker")
    def worker(n: int) -> int:
        return embed(f"text of worker {n}", langsmith_extra={"name": f"embed {n}"}) and n

    @traceable(name="fan out")
    def fan_out(count: int) -> list[int]:
        with ContextThreadPoolExecutor(max_workers=4) as pool:
            futures = [pool.submit(worker, n, langsmith_extra={"name": f"worker {n}"}) for n in range(count)]
            wait(futures)
            return [f.result() for f in futures]

    fan_out(12)


def async_() -> None:
    @traceable(run_type="llm", name="async chat")
    async def achat(n: int) -> str:
        await asyncio.sleep(0)
        return f"answer {n}"

    @traceable(name="branch")
    async def branch(n: int) -> list[str]:
        return list(await asyncio.gather(*(achat(n * 10 + i, langsmith_extra={"name": f"chat {n}.{i}"}) for i in range(3))))

    @traceable(name="async root")
    async def root() -> int:
        branches = await asyncio.gather(*(branch(n, langsmith_extra={"name": f"branch {n}"}) for n in range(4)))
        async with trace("async context", inputs={"n": 4}) as run:
            run.end(outputs={"n": len(branches)})
        return len(branches)

    asyncio.run(root())


def streaming() -> None:
    @traceable(run_type="llm", name="stream tokens", reduce_fn=lambda parts: {"text": "".join(parts)})
    def tokens(text: str):
        for word in text.split(" "):
            yield word + " "

    @traceable(name="stream items")
    def items(n: int):
        for i in range(n):
            yield {"i": i, "square": i * i}

    @traceable(name="stream async")
    async def atokens(n: int):
        for i in range(n):
            await asyncio.sleep(0)
            yield i

    @traceable(name="stream that breaks")
    def breaks():
        yield "first"
        raise ConnectionError("stream cut off “here”")

    @traceable(name="streams")
    def streams() -> int:
        list(tokens("viele kleine Wörter 🙂"))
        list(items(5))
        try:
            list(breaks())
        except ConnectionError:
            pass
        abandoned = items(9, langsmith_extra={"name": "abandoned stream"})
        next(abandoned)
        abandoned.close()
        return 4

    async def drain() -> None:
        async for _ in atokens(6):
            pass

    streams()
    asyncio.run(drain())


def errors() -> None:
    class OrderNotFound(LookupError):
        pass

    @traceable(run_type="tool", name="fails")
    def fails(n: int) -> None:
        raise OrderNotFound(f"no order {n}: “ошибка” 🚫\nsecond line\t\x1b[31mred")

    @traceable(name="retries")
    def retries() -> str:
        for n in range(2):
            try:
                fails(n)
            except OrderNotFound:
                pass
        return "gave up"

    @traceable(name="fails through")
    def through() -> None:
        retries()
        fails(2)

    try:
        through()
    except OrderNotFound:
        pass
    try:
        with trace("context that fails", inputs={"x": 1}):
            raise ValueError("in a context")
    except ValueError:
        pass


# --- attachments, feedback, hand-made runs ---


def content(size: int, seed: int) -> bytes:
    """Bytes that compress badly, the same each time."""
    out, state = bytearray(), seed
    while len(out) < size:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        out += state.to_bytes(8, "big")
    return bytes(out[:size])


def attachments() -> None:
    @traceable(name="describe image", dangerously_allow_filesystem=True)
    def describe(question: str, image: Attachment, log: Attachment, empty: Attachment, crlf: Attachment) -> str:
        current = get_current_run_tree()
        current.attachments["made later"] = Attachment("text/plain; charset=utf-8", "später 🙂".encode())
        return "a cat"

    describe("what is this?", Attachment("image/png", content(2 << 20, 1)), Attachment("text/x-python", HERE / "attached.txt"),
             Attachment("application/octet-stream", b""), Attachment("text/plain", b"--boundary\r\n\r\n--\r\n" * 50))
    with trace("with attachments", inputs={}, attachments={"notes": ("text/markdown", b"# notes\n"), "zwei": ("a/b", content(70_000, 2))}) as run:
        run.end(outputs={"ok": True})


def feedback() -> None:
    warnings.filterwarnings("ignore", "Creating feedback for a run without session_id")
    client, first = get_cached_client(), played.ids()

    @traceable(name="rated")
    def rated(text: str) -> str:
        return text.upper()

    run = chosen(first + 1)
    rated("so là là", langsmith_extra={"run_id": run})
    client.create_feedback(run, "correctness", score=0.98765432, trace_id=run, feedback_id=chosen(first + 2), comment="gut – très bien 👍",
                           source_info={"reviewer": "ja"})
    client.create_feedback(run, "category", value={"label": "à côté", "n": 3}, trace_id=run, feedback_id=chosen(first + 3),
                           correction={"output": "SO LÀ LÀ"}, score=True)
    client.create_feedback(run, "thumbs", score=1, trace_id=run, feedback_id=chosen(first + 4), extend_trace_retention=False)
    client.flush()
    # Without the trace's id the SDK posts it by itself and waits for the run.
    client.create_feedback(run, "posted alone", score=0, comment="", feedback_id=chosen(first + 5))
    client.update_feedback(chosen(first + 5), score=0.5, comment="changed")


def by_hand() -> None:
    """Runs made with the client and RunTree, with all ids and times chosen."""
    client, first = get_cached_client(), played.ids()
    start = datetime.now(timezone.utc).replace(microsecond=123456)
    root = RunTree(name="tree root", run_type="chain", inputs={"q": "?"}, id=chosen(first + 1), start_time=start,
                   extra={"metadata": {"made": "by hand"}}, tags=["hand"], client=client)
    root.post()
    child = root.create_child("tree child", "llm", run_id=chosen(first + 2), inputs={"messages": []}, start_time=start)
    child.post()
    child.end(outputs={"generations": [[{"text": "x"}]]}, end_time=start)
    child.patch()
    root.end(outputs={"a": "!"}, end_time=start)
    root.patch()
    # A run without trace id and dotted order goes by POST /runs, PATCH /runs/{id}.
    plain = chosen(first + 3)
    client.create_run("posted alone", {"n": 1}, "tool", id=plain, project_name="single runs", start_time=start)
    client.update_run(plain, outputs={"n": 2}, end_time=start)
    # An update that comes in a later request than its create.
    late = RunTree(name="ends late", run_type="chain", inputs={}, id=chosen(first + 4), client=client, start_time=start)
    late.post()
    client.flush()
    late.end(outputs={"late": True}, error="ended badly", end_time=start)
    late.patch()
    # Made whole in one step, and one that never ends.
    RunTree(name="whole", run_type="parser", inputs={"a": 1}, outputs={"b": 2}, id=chosen(first + 5), client=client,
            start_time=start, end_time=start).post()
    RunTree(name="never ends", run_type="chain", inputs={}, id=chosen(first + 6), client=client, start_time=start).post()


def addressed() -> None:
    """Runs that go to an agent's environment instead of a project."""

    @traceable(name="of an agent")
    def of_an_agent(n: int) -> int:
        embed(f"below {n}")
        return n

    agent = agent_address("support-bot", "production")
    of_an_agent(1, langsmith_extra={"address": agent})
    with tracing_context(address=agent):
        of_an_agent(2)


def evaluation() -> None:
    client, first = get_cached_client(), played.ids()
    data = client.create_dataset(f"capitals {played.count}")
    client.create_examples(dataset_id=data.id, examples=[
        {"id": chosen(first + n), "inputs": {"country": c}, "outputs": {"capital": k}, "metadata": {"n": n}}
        for n, (c, k) in enumerate([("Österreich", "Wien"), ("日本", "東京"), ("Peru", "Lima")])
    ])

    @traceable(run_type="llm", name="guess")
    def guess(country: str) -> str:
        return {"Österreich": "Wien", "日本": "東京"}.get(country) or 1 / 0

    def target(inputs: dict) -> dict:
        return {"capital": guess(inputs["country"])}

    def exact(outputs: dict, reference_outputs: dict) -> bool:
        return (outputs or {}).get("capital") == reference_outputs["capital"]

    def length(run: Any, example: Any) -> dict:
        return {"key": "length", "score": len(str((run.outputs or {}).get("capital"))), "comment": "Länge"}

    # The SDK logs the error of the third example; that is the evaluation's own.
    logging.getLogger("langsmith.evaluation._runner").setLevel(logging.CRITICAL)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints a link
        results = evaluate(target, data=data.name, evaluators=[exact, length], experiment_prefix="capitals",
                           max_concurrency=0, client=client, metadata={"variant": "a"})
    assert len(list(results)) == 3


def small(count: int) -> None:
    """So many traces of two runs each."""

    @traceable(run_type="tool", name="part")
    def part(n: int) -> int:
        return n

    @traceable(name="small")
    def whole(n: int) -> int:
        return part(n)

    for n in range(count):
        whole(n)


def flush() -> None:
    get_cached_client().flush()
    if os.environ.get("LANGSMITH_TRACING_MODE") in ("otel", "hybrid"):
        from opentelemetry import trace as otel

        otel.get_tracer_provider().force_flush()


SCENARIOS = {
    "nested": nested, "many": many, "threads": threads, "async": async_, "streaming": streaming, "errors": errors,
    "attachments": attachments, "feedback": feedback, "by hand": by_hand, "addressed": addressed, "evaluate": evaluation,
}


def main() -> None:
    if "chains" in sys.argv[1:]:
        import chains

        SCENARIOS.update(chains.SCENARIOS)
    for line in sys.stdin:
        name = line.strip()
        played.count += 1
        if name.startswith("traces "):
            small(int(name.removeprefix("traces ")))
        elif name in SCENARIOS:
            SCENARIOS[name]()
        else:
            sys.exit(f"app.py: what is {name!r}? Known are: traces N, {', '.join(SCENARIOS)}")
        flush()
        print(json.dumps({"done": name}), flush=True)


if __name__ == "__main__":
    main()
