"""An agent: asks the provider twice, and tries again when it is refused, as agents do. It knows nothing of leasecap."""

from __future__ import annotations

import http.client
import json
import os
import random
import sys
import time
from urllib.parse import urlsplit

QUESTIONS = ["How do a dozen agents share one account?", "And what happens to the thirteenth?"]
TRIES = 30  # of each question


def send(address: str, question: str) -> tuple[int, str | None, str]:
    """One request: its status, its Retry-After, and the streamed answer."""
    url = urlsplit(address)
    body = json.dumps({"model": "demo", "stream": True, "messages": [{"role": "user", "content": question}]})
    connection = http.client.HTTPConnection(url.netloc, timeout=30)
    try:
        connection.request("POST", f"{url.path}/chat/completions", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status not in (200, 429):
            raise SystemExit(f"agent: the provider answered {response.status} {response.reason}")
        return response.status, response.headers["Retry-After"], "".join(content(line) for line in response)
    finally:
        connection.close()


def ask(address: str, question: str) -> str | None:
    """The streamed answer, or None when the provider refused too often."""
    for attempt in range(TRIES):
        status, retry_after, answer = send(address, question)
        if status == 200:
            return answer
        time.sleep(max(float(retry_after or 0), min(2.0, 0.5 * 2**attempt)) * random.uniform(1.0, 1.25))
    return None


def content(line: bytes) -> str:
    """The text that one line of the stream carries."""
    if not line.startswith(b"data: {"):
        return ""
    return str(json.loads(line.removeprefix(b"data: "))["choices"][0]["delta"]["content"])


if __name__ == "__main__":
    for question in QUESTIONS:
        answer = ask(os.environ["OPENAI_BASE_URL"], question)
        if not answer:
            sys.exit(f"agent: no answer after {TRIES} tries")
        print(answer)
