"""litellm: a completion of each of two providers, at once."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

litellm: Any = importlib.import_module("litellm")


async def main() -> None:
    for text in await asyncio.gather(ask("openai/gpt-4o"), ask("anthropic/claude-sonnet-4-5")):
        print(text)


async def ask(model: str) -> str:
    done = await litellm.acompletion(model=model, messages=[{"role": "user", "content": "hi"}], max_tokens=9)
    return str(done.choices[0].message.content)


if __name__ == "__main__":
    asyncio.run(main())
