"""Sends one trace to weir over Ingest and prints the ids that weir gave it.

WEIR_GRPC is weir's address, LANGSMITH_API_KEY an optional key. The modules
weir.v1 are generated into gen/ by grpcio-tools; ../run does it.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime, timezone
from pathlib import Path

import grpc

sys.path.insert(0, str(Path(__file__).with_name("gen")))
from weir.v1 import ingest_pb2 as weir  # noqa: E402
from weir.v1 import ingest_pb2_grpc as service  # noqa: E402

TIMEOUT_SECONDS = 20


class Refused(Exception):
    """weir kept not every operation of a request."""


class Client:
    """Sends operations and takes any refusal for an error."""

    def __init__(self, channel: grpc.Channel, key: str | None) -> None:
        self._stub = service.IngestServiceStub(channel)
        self._metadata = [("x-api-key", key)] if key else []

    def send(self, *operations: weir.Operation) -> list[weir.ItemResult]:
        response = self._stub.Ingest(
            weir.IngestRequest(operations=operations),
            metadata=self._metadata,
            timeout=TIMEOUT_SECONDS,
        )
        if len(response.results) != len(operations):
            raise Refused(f"{len(response.results)} results for {len(operations)} operations")
        for result in response.results:
            if result.HasField("error"):
                raise Refused(f"operation {result.index}: {result.error}")
        return list(response.results)


def now() -> datetime:
    return datetime.now(timezone.utc)


def text(value: object) -> weir.Json:
    return weir.Json(text=json.dumps(value).encode())


def send_trace(client: Client) -> None:
    """Sends a chain with a call of a model inside, then how they ended."""
    (root,) = client.send(
        weir.Operation(
            create=weir.Run(
                name="answer-question",
                run_type="chain",
                start_time=now(),
                inputs=text({"question": "What does a weir do?"}),
                tags=["example", "python"],
            )
        )
    )
    # weir takes trace_id and dotted_order from the parent.
    (llm,) = client.send(
        weir.Operation(
            create=weir.Run(
                parent_run_id=root.id,
                name="chat-model",
                run_type="llm",
                start_time=now(),
                inputs=text({"messages": [{"role": "user", "content": "What does a weir do?"}]}),
            )
        )
    )
    *_, feedback = client.send(
        weir.Operation(
            update=weir.Run(
                id=llm.id,
                end_time=now(),
                outputs=text({"role": "assistant", "content": "It holds back a river."}),
            )
        ),
        weir.Operation(
            update=weir.Run(id=root.id, end_time=now(), outputs=text({"answer": "It holds back a river."}))
        ),
        weir.Operation(
            attachment=weir.Attachment(
                run_id=root.id, name="notes", content_type="text/plain", content=b"A weir is a low dam.\n"
            )
        ),
        weir.Operation(feedback=weir.Feedback(run_id=root.id, key="correctness", score=1.0)),
    )
    print(f"trace {root.trace_id} root {root.id} llm {llm.id} feedback {feedback.id}")


def main() -> int:
    address = os.environ.get("WEIR_GRPC") or "127.0.0.1:4317"
    try:
        with grpc.insecure_channel(address) as channel:
            send_trace(Client(channel, os.environ.get("LANGSMITH_API_KEY")))
    except grpc.RpcError as err:
        print(f"python: {err.code().name}: {err.details()}", file=sys.stderr)
        return 1
    except Refused as err:
        print(f"python: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
