"""The scenarios of LangChain and LangGraph, on a chat model that is a fake."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, TypedDict

from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnableParallel, RunnablePassthrough
from langchain_core.tools import tool
from langchain_core.tracers.langchain import wait_for_all_tracers
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages


class FakeModel(BaseChatModel):
    """Calls the tool once where it has one, else repeats what it was told."""

    model_name: str = "fake-1"
    has_tools: bool = False

    @property
    def _llm_type(self) -> str:
        return "fake"

    def bind_tools(self, tools: Any, **kwargs: Any) -> "FakeModel":
        return FakeModel(has_tools=True)

    def _message(self, messages: list[BaseMessage]) -> AIMessage:
        usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
        if self.has_tools and not any(m.type == "tool" for m in messages):
            call = {"name": "weather", "args": {"city": "Zürich"}, "id": "call_1", "type": "tool_call"}
            return AIMessage("", tool_calls=[call], usage_metadata=usage, id="message-1")
        return AIMessage(f"You said: {messages[-1].content} 🙂", usage_metadata=usage, id="message-2")

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._message(messages))], llm_output={"model": self.model_name})

    def _stream(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any):
        message = self._message(messages)
        for word in message.content.split(" "):
            chunk = ChatGenerationChunk(message=AIMessageChunk(word + " ", id=message.id))
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk


class FakeRetriever(BaseRetriever):
    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return [Document(f"about {query}", metadata={"source": "kb", "rank": i}) for i in range(2)]


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"Regen in {city}"


@tool
def broken(city: str) -> str:
    """A tool that fails."""
    raise RuntimeError(f"no weather in {city}")


def langchain() -> None:
    prompt = ChatPromptTemplate.from_messages([("system", "Answer from {context}."), ("human", "{question}")])
    chain = (
        RunnableParallel(context=FakeRetriever() | RunnableLambda(lambda docs: docs[0].page_content, name="first document"),
                         question=RunnablePassthrough())
        | prompt | FakeModel() | StrOutputParser()
    )
    config = {"tags": ["prod", "日本語"], "metadata": {"tenant": "café", "thread_id": "thread 1"}, "run_name": "answer chain"}
    chain.invoke("Wo bleibt es?", config)
    list(chain.stream("Stream it, please", {**config, "run_name": "streamed chain"}))
    chain.batch(["one", "two", "three"], [{"run_name": f"batch {n}", "max_concurrency": 2} for n in range(3)])
    asyncio.run(chain.ainvoke("async?", {**config, "run_name": "async chain"}))
    weather.invoke({"city": "Bern"})


def langchain_errors() -> None:
    """By itself, as the SDK's OTel mode is of two minds about a failed tool: its
    span's status depends on whether create and update meet in a batch."""
    try:
        broken.invoke({"city": "Basel"})
    except RuntimeError:
        pass


class State(TypedDict):
    messages: Annotated[list, add_messages]
    rounds: int


def langgraph() -> None:
    model = FakeModel()

    def think(state: State) -> dict:
        return {"messages": [model.invoke(state["messages"])], "rounds": state["rounds"] + 1}

    def again(state: State) -> str:
        return "think" if state["rounds"] < 3 else END

    graph = StateGraph(State)
    graph.add_node("think", think)
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", again)
    app = graph.compile(checkpointer=InMemorySaver(), name="thinker")
    config = {"configurable": {"thread_id": "thread 7"}, "metadata": {"customer": 7}}
    first = {"messages": [HumanMessage("Grüezi", id="human-1")], "rounds": 0}
    app.invoke(first, config)
    list(app.stream({"messages": [HumanMessage("again", id="human-2")], "rounds": 1}, config, stream_mode="updates"))
    agent = create_agent(FakeModel(), [weather], system_prompt="You are a weather agent.", name="weather agent")
    agent.invoke({"messages": [HumanMessage("Wie ist das Wetter?", id="human-3")]})
    asyncio.run(agent.ainvoke({"messages": [HumanMessage("und morgen?", id="human-4")]}))


def waiting(play: Any) -> Any:
    """LangChain's tracers hand over to the SDK before it is flushed."""

    def played() -> None:
        play()
        wait_for_all_tracers()

    return played


SCENARIOS = {"langchain": waiting(langchain), "langchain errors": waiting(langchain_errors), "langgraph": waiting(langgraph)}
