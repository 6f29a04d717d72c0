"""An application that uses LiteLLM's LangSmith callback, unmodified, on mocked answers.

It speaks as python/app.py does: names of scenarios on standard input, and
{"done": NAME} on standard output once a scenario is played and flushed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import uuid

import litellm
from litellm.integrations.langsmith import LangsmithLogger


def chosen(n: int) -> str:
    """An id that the application chose; the tests know it by its beginning."""
    return str(uuid.UUID(f"00000000-0000-4000-8000-{n:012x}"))


async def completions(first: int) -> None:
    messages = [{"role": "system", "content": "Antworte kurz."}, {"role": "user", "content": "Wo ist mein Paket? 🙂"}]
    for n in range(5):
        await litellm.acompletion(
            model="gpt-4.1-mini", messages=messages, mock_response=f"Unterwegs ({n}) “heute”", temperature=0.2, api_key="sk-none",
            metadata={"run_name": f"completion {n}", "run_id": chosen(first + n), "tags": ["prod"], "customer": {"id": n}},
        )
    async for _ in await litellm.acompletion(
        model="gpt-4.1-mini", messages=messages, mock_response="Ein Strom von Wörtern", stream=True, api_key="sk-none",
        metadata={"run_name": "streamed", "run_id": chosen(first + 10), "project_name": "another project"},
    ):
        pass
    try:
        await litellm.acompletion(
            model="gpt-4.1-mini", messages=messages, mock_response=Exception("mocked failure 🚫"), api_key="sk-none",
            metadata={"run_name": "failed", "run_id": chosen(first + 11)},
        )
    except Exception:  # noqa: BLE001 -- whatever LiteLLM makes of it
        pass


async def main() -> None:
    logging.getLogger("LiteLLM").setLevel(logging.WARNING)
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    logger = LangsmithLogger(flush_interval=3600)  # never but when it is told to
    litellm.callbacks = [logger]
    count = 0
    while line := await asyncio.to_thread(sys.stdin.readline):
        if line.strip() != "completions":
            sys.exit(f"litellm/app.py: what is {line!r}? Known is: completions")
        count += 1
        await completions(count * 0x1000)
        # LiteLLM logs from tasks of its own: every call is in the queue before
        # the queue is flushed, as its timer would do.
        async with asyncio.timeout(240):
            while len(logger.log_queue) < 7:
                await asyncio.sleep(0.02)
        await logger.flush_queue()
        print(json.dumps({"done": "completions"}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
