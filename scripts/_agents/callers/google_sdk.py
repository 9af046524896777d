"""google-genai: an answer and a streamed one, from two threads."""

from __future__ import annotations

import importlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

genai: Any = importlib.import_module("google.genai")


def main() -> None:
    client = genai.Client()
    with ThreadPoolExecutor(2) as threads:
        for text in threads.map(lambda ask: ask(client), (content, streamed_content)):
            print(text)


def content(client: Any) -> str:
    return str(client.models.generate_content(model="fake-1", contents="hi").text)


def streamed_content(client: Any) -> str:
    return "".join(part.text or "" for part in client.models.generate_content_stream(model="fake-1", contents="hi"))


if __name__ == "__main__":
    main()
