"""The ways to the provider that are compared, each in processes of its own that are gone when the block is left."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from ..fleet import Worker, clean_environment, free_port
from ..scale import LEASECAP

SAYS_ITS_GATE = 'echo "$OPENAI_BASE_URL"; exec cat'
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
LITELLM = Path(__file__).resolve().parents[3] / "build" / "litellm" / "bin" / "litellm"
LITELLM_STARTS_IN = 120.0  # seconds


class Way(NamedTuple):
    """How a client reaches the provider.

    :ivar prefix: of its paths.
    :ivar pid: of the process on the way; 0: there is none.
    """

    port: int
    prefix: str = ""
    pid: int = 0


@contextlib.contextmanager
def provider(lag: float = 0.0) -> Iterator[Way]:
    """Straight to the provider."""
    with Worker("gate.provider", lag) as process:
        yield Way(process.hear(), pid=process.pid)


@contextlib.contextmanager
def bare_proxy(provider: Way) -> Iterator[Way]:
    with Worker("gate.bare_proxy", provider.port) as process:
        yield Way(process.hear(), pid=process.pid)


def environment(directory: str, provider: Way, **more: str) -> dict[str, str]:
    """For a command whose provider that is."""
    url = f"http://127.0.0.1:{provider.port}"
    found = clean_environment(
        LEASECAP_HOME=os.path.join(directory, "root"), HOME=directory, OPENAI_BASE_URL=f"{url}/v1", **more
    )
    return {name: value for name, value in found.items() if name not in PROXIES}


@contextlib.contextmanager
def running(words: Sequence[str], directory: str, provider: Way) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A command that is led to the provider, and its first line."""
    with subprocess.Popen(
        words, env=environment(directory, provider), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def wrapped(limit: int, *command: str, per_request: bool = True) -> list[str]:
    return [
        *(str(LEASECAP), "run", "-p", "bench", "--limit", str(limit)),
        *(("--per-request",) if per_request else ()),
        *("--", *command),
    ]


@contextlib.contextmanager
def gate(directory: str, provider: Way, limit: int) -> Iterator[Way]:
    """Through the gate of a command that does nothing itself."""
    with running(wrapped(limit, "sh", "-c", SAYS_ITS_GATE), directory, provider) as (process, url):
        yield way(url, process.pid)


def way(url: str, pid: int = 0) -> Way:
    """By a base URL that ends with the version, as OpenAI's do."""
    parts = urlsplit(url)
    if parts.port is None:
        raise RuntimeError(f"the command has no gate, but {url!r}")
    return Way(parts.port, parts.path.removesuffix("/v1"), pid)


@contextlib.contextmanager
def litellm(directory: str, provider: Way) -> Iterator[Way]:
    """Through LiteLLM's proxy, with one worker."""
    config = Path(directory) / "litellm.yaml"
    parameters = {"model": "openai/demo", "api_base": f"http://127.0.0.1:{provider.port}/v1", "api_key": "nobody"}
    config.write_text(json.dumps({"model_list": [{"model_name": "demo", "litellm_params": parameters}]}))
    port = free_port()
    words = [str(LITELLM), "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"]
    with subprocess.Popen(
        words,
        env=environment(directory, provider, LITELLM_LOG="ERROR", LITELLM_LOCAL_MODEL_COST_MAP="True"),
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            await_answer(port, LITELLM_STARTS_IN)
            yield Way(port, pid=process.pid)
        finally:
            process.kill()


def await_answer(port: int, patience: float) -> None:
    """Until it answers anything."""
    until = time.monotonic() + patience
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health/liveliness")
            connection.getresponse().read()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
        finally:
            connection.close()


def memory(pid: int) -> tuple[float, float]:
    """MiB that a process takes now, and took at most; nan without /proc."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return float("nan"), float("nan")
    found = {line.split()[0]: int(line.split()[1]) / 1024 for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return found["VmRSS:"], found["VmHWM:"]


def cpu_seconds(pid: int) -> float:
    """Of a process, by now; nan without /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
