"""anthropic: a message, a streamed one and a count of tokens, all at once."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

anthropic: Any = importlib.import_module("anthropic")
QUESTION = {"model": "fake-1", "messages": [{"role": "user", "content": "hi"}]}


async def main() -> None:
    async with anthropic.AsyncAnthropic() as client:
        for text in await asyncio.gather(message(client), streamed_message(client), count(client)):
            print(text)


async def message(client: Any) -> str:
    done = await client.messages.create(max_tokens=9, **QUESTION)
    return str(done.content[0].text)


async def streamed_message(client: Any) -> str:
    async with client.messages.stream(max_tokens=9, **QUESTION) as stream:
        return "".join([text async for text in stream.text_stream])


async def count(client: Any) -> str:
    counted = await client.messages.count_tokens(**QUESTION)
    return f"{counted.input_tokens} tokens"


if __name__ == "__main__":
    asyncio.run(main())
