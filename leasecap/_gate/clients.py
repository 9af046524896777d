"""What the gate knows of providers and of the agents that call them. Data alone; config.toml adds to it.

A variable stands here only where a client is known to read it. What single agents need beyond that is in `agents`, what
is set for the command in `environment`.
"""

from __future__ import annotations

from types import MappingProxyType

from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

TOKEN_HEADER = "x-leasecap-gate"  # noqa: S105 - a name
"""Has the gate's token where a client can't have it in its URL. It never goes upstream."""

TOKEN_VARIABLE = "LEASECAP_GATE_TOKEN"  # noqa: S105 - a name
"""What a client takes that header's value from."""

NO_TOKEN = "-"  # noqa: S105 - a mark
"""Stands for the token in the URL of a client that sends the header."""

_AN_HOUR = "3600000"  # in milliseconds


class Variable(NamedTuple):
    """An environment variable that holds a provider's base URL.

    :ivar path: what follows the origin in it for the public provider.
    """

    name: str
    path: str = ""


class Provider(NamedTuple):
    """One provider.

    :ivar name: its id in the gate's URLs; where a pool is preset, the name of that.
    :ivar origin: where it is reached unless something says otherwise.
    :ivar path: the path of its base URL, for clients that the gate gives no variable.
    """

    name: str
    origin: str
    path: str
    variables: tuple[Variable, ...] = ()


class Agent(NamedTuple):
    """One command that is known.

    :ivar provider: the upstream of its own requests, or None: it has many.
    :ivar reached: what leads its requests through the gate, as people are told; "" if nothing does.
    :ivar settings: which of its own files the gate can read, a module of `agents`.
    :ivar paths: variables that it reads with another path than others do.
    :ivar environment: what lifts its time-outs: they would count the time in the queue. Never replaces what is set.
    :ivar first_party: what it does by itself only for its provider's own host, and may go on doing if that is where its
        requests end. Never replaces what is set.
    :ivar elsewhere: variables that send its requests another way, past the gate.
    :ivar dotenv: whether it may read ``.env``, and if it does, whether that goes above the environment.
    :ivar left_to_user: why the gate can't reach it and what to do instead; "" if it can.
    """

    name: str
    provider: str | None = None
    reached: str = ""
    settings: Literal["", "claude", "codex", "gemini", "opencode", "qwen"] = ""
    paths: Mapping[str, str] = {}
    environment: Mapping[str, str] = {}
    first_party: Mapping[str, str] = {}
    elsewhere: tuple[str, ...] = ()
    dotenv: Literal["ignored", "below", "above"] = "below"
    left_to_user: str = ""


class Detour(NamedTuple):
    """Requests of a provider that belong to another host, by a header that their login brings.

    :ivar drops: what the path of such a request begins with at the provider, and not there.
    """

    provider: str
    header: bytes
    origin: str
    path: str
    drops: str


_PROVIDERS = (
    Provider(
        "anthropic",
        "https://api.anthropic.com",
        "",
        (Variable("ANTHROPIC_BASE_URL"), Variable("ANTHROPIC_API_BASE")),
    ),
    Provider(
        "openai",
        "https://api.openai.com",
        "/v1",
        (Variable("OPENAI_BASE_URL", "/v1"), Variable("OPENAI_API_BASE", "/v1")),
    ),
    Provider(
        "gemini",
        "https://generativelanguage.googleapis.com",
        "/v1beta",
        (Variable("GOOGLE_GEMINI_BASE_URL"),),
    ),
    # Gemini CLI with a Google login.
    Provider("codeassist", "https://cloudcode-pa.googleapis.com", "", (Variable("CODE_ASSIST_ENDPOINT"),)),
    Provider(
        "ollama",
        "http://127.0.0.1:11434",
        "/v1",
        (Variable("OLLAMA_HOST"), Variable("OLLAMA_API_BASE")),
    ),
    Provider("openrouter", "https://openrouter.ai", "/api/v1", (Variable("OPENROUTER_API_BASE", "/api/v1"),)),
    Provider("mistral", "https://api.mistral.ai", "/v1", (Variable("MISTRAL_API_BASE", "/v1"),)),
    Provider("deepseek", "https://api.deepseek.com", "", (Variable("DEEPSEEK_API_BASE", "/beta"),)),
    Provider(
        "groq",
        "https://api.groq.com",
        "/openai/v1",
        (Variable("GROQ_BASE_URL"), Variable("GROQ_API_BASE", "/openai/v1")),
    ),
    Provider("xai", "https://api.x.ai", "/v1", (Variable("XAI_API_BASE", "/v1"),)),
    Provider("zai", "https://api.z.ai", "/api/paas/v4", (Variable("ZAI_API_BASE", "/api/paas/v4"),)),
    Provider("opencode", "https://opencode.ai", "/zen/v1"),
    # Codex reads no variable, so what OPENAI_BASE_URL says is never the address of its own requests.
    Provider("codex", "https://api.openai.com", "/v1"),
)

_AGENTS = (
    Agent(
        "claude",
        "anthropic",
        "ANTHROPIC_BASE_URL",
        "claude",
        environment={"API_FORCE_IDLE_TIMEOUT": "0", "API_TIMEOUT_MS": _AN_HOUR},
        # Else it sends the definitions of all tools with each request.
        first_party={"ENABLE_TOOL_SEARCH": "true"},
        elsewhere=(
            "CLAUDE_CODE_USE_BEDROCK",
            "CLAUDE_CODE_USE_VERTEX",
            "CLAUDE_CODE_USE_FOUNDRY",
            "CLAUDE_CODE_USE_MANTLE",
            "ANTHROPIC_UNIX_SOCKET",
        ),
        dotenv="ignored",
    ),
    Agent("codex", "codex", "-c model_provider, token in a header", "codex", dotenv="ignored"),
    Agent(
        "gemini",
        "gemini",
        "GOOGLE_GEMINI_BASE_URL, CODE_ASSIST_ENDPOINT",
        "gemini",
        elsewhere=("GOOGLE_GENAI_USE_VERTEXAI",),
    ),
    Agent(
        "opencode",
        None,
        "OPENCODE_CONFIG_CONTENT",
        "opencode",
        paths={"ANTHROPIC_BASE_URL": "/v1"},
        dotenv="ignored",
    ),
    Agent(
        "qwen",
        "openai",
        "OPENAI_BASE_URL, ANTHROPIC_BASE_URL",
        "qwen",
        environment={"QWEN_CODE_API_TIMEOUT_MS": _AN_HOUR},
    ),
    Agent("aider", None, "OPENAI_API_BASE, ANTHROPIC_API_BASE and the like", dotenv="above"),
    Agent("llm", "openai", "OPENAI_BASE_URL"),
    Agent("ollama", "ollama", "OLLAMA_HOST", dotenv="ignored"),
    Agent(
        "pi",
        left_to_user="pi takes its addresses from its own models.json alone, and the gate's address is new in each "
        "run. Write one of `leasecap gate --env` there, which stays; or use leasecap run without --per-request: it "
        "holds one slot while pi runs.",
    ),
    Agent(
        "vibe",
        left_to_user="vibe takes its addresses from its own config.toml alone, and the gate's address is new in each "
        "run. Write one of `leasecap gate --env` there, which stays; or use leasecap run without --per-request: it "
        "holds one slot while vibe runs.",
    ),
)

#: What opencode calls a provider, where that is another name than ours.
OPENCODE_NAMES: Mapping[str, str] = MappingProxyType({"google": "gemini"})

#: A provider's key in the environment says that opencode offers its models.
OPENCODE_KEYS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "anthropic": ("ANTHROPIC_API_KEY",),
        "openai": ("OPENAI_API_KEY",),
        "google": ("GOOGLE_GENERATIVE_AI_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY"),
        "openrouter": ("OPENROUTER_API_KEY",),
        "mistral": ("MISTRAL_API_KEY",),
        "deepseek": ("DEEPSEEK_API_KEY",),
        "groq": ("GROQ_API_KEY",),
        "xai": ("XAI_API_KEY",),
        "zai": ("ZHIPU_API_KEY",),
    }
)

PROVIDERS: Mapping[str, Provider] = MappingProxyType({provider.name: provider for provider in _PROVIDERS})
AGENTS: Mapping[str, Agent] = MappingProxyType({agent.name: agent for agent in _AGENTS})

DETOURS = (Detour("codex", b"chatgpt-account-id", "https://chatgpt.com", "/backend-api/codex", "/v1"),)
