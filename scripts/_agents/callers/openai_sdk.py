"""openai: both of its interfaces, whole and streamed, all at once."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

openai: Any = importlib.import_module("openai")
MESSAGES = [{"role": "user", "content": "hi"}]


async def main() -> None:
    async with openai.AsyncOpenAI() as client:
        answers = [completion(client), streamed_completion(client), response(client), streamed_response(client)]
        for text in await asyncio.gather(*answers):
            print(text)


async def completion(client: Any) -> str:
    done = await client.chat.completions.create(model="fake-1", messages=MESSAGES)
    return str(done.choices[0].message.content)


async def streamed_completion(client: Any) -> str:
    chunks = await client.chat.completions.create(model="fake-1", messages=MESSAGES, stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])


async def response(client: Any) -> str:
    done = await client.responses.create(model="fake-1", input="hi")
    return str(done.output_text)


async def streamed_response(client: Any) -> str:
    events = await client.responses.create(model="fake-1", input="hi", stream=True)
    return "".join([event.delta async for event in events if event.type == "response.output_text.delta"])


if __name__ == "__main__":
    asyncio.run(main())
