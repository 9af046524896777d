"""The clients, pinned, and how each is made to ask one question. Data alone.

In commands and variables ``{url}`` is the provider's base URL up to what the client itself adds, ``{key}`` the key,
``{python}`` the Python that an SDK is installed for, and ``{callers}`` the folder of `callers`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

from leasecap._gate.clients import AGENTS

PREFIX = "/some/proxy"
"""The path of the provider's base URL: what stands before a client's own paths."""

KEY = "sk-no-key-at-all"


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a request that costs something must reach the provider.

    :ivar path: what follows `PREFIX` in its target.
    :ivar header: where its key stands, in lower case.
    """

    path: str
    header: str
    value: str = KEY


MESSAGES = Arrival("/v1/messages", "x-api-key")
MESSAGES_OF_BEARERS = Arrival("/v1/messages", "authorization", f"Bearer {KEY}")
COMPLETIONS = Arrival("/v1/chat/completions", "authorization", f"Bearer {KEY}")
RESPONSES = Arrival("/v1/responses", "authorization", f"Bearer {KEY}")
CONTENT = Arrival("/v1beta/models/", "x-goog-api-key")
CONTENT_OF_SDK = Arrival("/v1/models/", "x-goog-api-key")


@dataclass(frozen=True, slots=True)
class Client:
    """One client.

    :ivar name: as people call it; ``id`` is what the script takes.
    :ivar package: its name at npm or PyPI.
    :ivar arrivals: what must arrive, each at least once, and nothing else that costs.
    :ivar variables: what it is started with.
    :ivar files: what stands in its home.
    :ivar reached: how its requests come to the gate.
    :ivar retries: what it prints when it tries again by itself; "" if that isn't known.
    :ivar ci: whether `.ci/run` plays it.
    """

    id: str
    name: str
    source: Literal["npm", "PyPI"]
    package: str
    version: str
    command: tuple[str, ...]
    arrivals: tuple[Arrival, ...]
    variables: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    reached: str = ""
    retries: str = ""
    ci: bool = False


CLIENTS = (
    Client(
        "claude",
        "Claude Code",
        "npm",
        "@anthropic-ai/claude-code",
        "2.1.197",
        ("claude", "-p", "hi", "--output-format", "stream-json", "--verbose"),
        (MESSAGES,),
        {
            "ANTHROPIC_BASE_URL": "{url}",
            "ANTHROPIC_API_KEY": "{key}",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        },
        reached=AGENTS["claude"].reached,
        retries='"api_retry"',
        ci=True,
    ),
    Client(
        "codex",
        "Codex",
        "npm",
        "@openai/codex",
        "0.169.0",
        ("codex", "exec", "--skip-git-repo-check", "hi"),
        (RESPONSES,),
        # Its list of plugins comes from chatgpt.com, whatever its provider is: free, and none of the gate's business.
        files={
            ".codex/auth.json": json.dumps({"OPENAI_API_KEY": KEY}),
            ".codex/config.toml": 'openai_base_url = "{url}/v1"\n[features]\nplugins = false\n',
        },
        reached=AGENTS["codex"].reached,
        ci=True,
    ),
    Client(
        "openai",
        "openai SDK",
        "PyPI",
        "openai",
        "3.57.0",
        ("{python}", "-I", "{callers}/openai_sdk.py"),
        (COMPLETIONS, RESPONSES),
        {"OPENAI_BASE_URL": "{url}/v1", "OPENAI_API_KEY": "{key}"},
        reached="OPENAI_BASE_URL",
        ci=True,
    ),
    Client(
        "anthropic",
        "anthropic SDK",
        "PyPI",
        "anthropic",
        "2.14.0",
        ("{python}", "-I", "{callers}/anthropic_sdk.py"),
        (MESSAGES_OF_BEARERS,),
        {"ANTHROPIC_BASE_URL": "{url}", "ANTHROPIC_API_KEY": "{key}"},
        reached="ANTHROPIC_BASE_URL",
        ci=True,
    ),
    Client(
        "gemini",
        "Gemini CLI",
        "npm",
        "@google/gemini-cli",
        "0.61.0",
        ("gemini", "-m", "gemini-2.5-flash", "-p", "hi"),
        (CONTENT,),
        {"GOOGLE_GEMINI_BASE_URL": "{url}", "GEMINI_API_KEY": "{key}", "GEMINI_CLI_TRUST_WORKSPACE": "true"},
        {".gemini/settings.json": json.dumps({"security": {"auth": {"selectedType": "gemini-api-key"}}})},
        reached=AGENTS["gemini"].reached,
    ),
    Client(
        "opencode",
        "opencode",
        "npm",
        "opencode-ai",
        "1.18.33",
        ("opencode", "run", "-m", "anthropic/claude-sonnet-4-5", "hi"),
        (MESSAGES,),
        {"ANTHROPIC_BASE_URL": "{url}/v1", "ANTHROPIC_API_KEY": "{key}"},
        reached=AGENTS["opencode"].reached,
    ),
    Client(
        "qwen",
        "Qwen Code",
        "npm",
        "@qwen-code/qwen-code",
        "0.15.10",
        ("qwen", "-p", "hi"),
        (COMPLETIONS,),
        {"OPENAI_BASE_URL": "{url}/v1", "OPENAI_API_KEY": "{key}", "OPENAI_MODEL": "fake-1"},
        reached=AGENTS["qwen"].reached,
    ),
    Client(
        "google",
        "google-genai SDK",
        "PyPI",
        "google-genai",
        "3.6.1",
        ("{python}", "-I", "{callers}/google_sdk.py"),
        (CONTENT_OF_SDK,),
        {"GOOGLE_GEMINI_BASE_URL": "{url}", "GEMINI_API_KEY": "{key}"},
        reached="GOOGLE_GEMINI_BASE_URL",
    ),
    Client(
        "llm",
        "llm",
        "PyPI",
        "llm",
        "0.36",
        ("llm", "-m", "gpt-4o-mini", "hi"),
        (COMPLETIONS,),
        {"OPENAI_BASE_URL": "{url}/v1", "OPENAI_API_KEY": "{key}"},
        reached=AGENTS["llm"].reached,
    ),
    Client(
        "litellm",
        "litellm",
        "PyPI",
        "litellm",
        "1.110.2",
        ("{python}", "-I", "{callers}/litellm_sdk.py"),
        (COMPLETIONS, MESSAGES),
        {
            "OPENAI_API_BASE": "{url}/v1",
            "OPENAI_API_KEY": "{key}",
            "ANTHROPIC_API_BASE": "{url}",
            "ANTHROPIC_API_KEY": "{key}",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        },
        reached="OPENAI_API_BASE, ANTHROPIC_API_BASE",
    ),
    Client(
        "aider",
        "aider",
        "PyPI",
        "aider-chat",
        "0.86.2",
        ("aider", "--model", "openai/gpt-4o", "--no-git", "--yes-always", "--no-check-update", "--analytics-disable",
         "--no-show-release-notes", "--no-show-model-warnings", "--no-detect-urls", "--message", "hi"),
        (COMPLETIONS,),
        {"OPENAI_API_BASE": "{url}/v1", "OPENAI_API_KEY": "{key}", "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        reached=AGENTS["aider"].reached,
    ),
)  # fmt: skip
