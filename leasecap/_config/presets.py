"""What leasecap knows about providers without being told: which hosts are which pool, and limits with their reasons.

A limit stands here only where a fact about the software or the service justifies it. Where the provider's limit depends
on the account, the plan or the model, any number would be wrong for most, so there is none and a person has to set it.
"""

from __future__ import annotations

from types import MappingProxyType

from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Preset(NamedTuple):
    """What ships for one pool.

    :ivar pool: the pool's name; lower-case ASCII, so that it is its own identity.
    :ivar limit: the limit when config.toml sets none for the pool, or None: a person must set one.
    :ivar reason: why there is that number, or none, in words for people.
    :ivar hosts: the endpoints that are this pool: ``host`` for ports 80 and 443, else ``host:port``.
    :ivar local: whether each machine has its own.
    """

    pool: str
    limit: int | None
    reason: str
    hosts: tuple[str, ...] = ()
    local: bool = False


ON_ACCOUNT = "the provider's limit depends on your account, plan and model"

_ALL = (
    Preset(
        "zai",
        3,
        "requests time out well before the 10 in flight that were advertised; Z.ai documents that the real limit moves "
        "with plan and load",
        ("api.z.ai", "open.bigmodel.cn"),
    ),
    Preset(
        "ollama",
        1,
        "OLLAMA_NUM_PARALLEL is 1 unless you set it: a model answers one request, the others wait in the server",
        ("localhost:11434",),
        local=True,
    ),
    # It has no host: 8080 is llama-server's port by default, but many other local servers use it too.
    Preset(
        "llamacpp",
        1,
        "requests in parallel share one model's memory bandwidth and context; raise it to what you give llama-server "
        "as --parallel",
        local=True,
    ),
    Preset("anthropic", None, ON_ACCOUNT, ("api.anthropic.com",)),
    Preset("openai", None, ON_ACCOUNT, ("api.openai.com", "chatgpt.com")),
    Preset("gemini", None, ON_ACCOUNT, ("generativelanguage.googleapis.com", "cloudcode-pa.googleapis.com")),
    Preset("openrouter", None, ON_ACCOUNT, ("openrouter.ai",)),
    Preset("deepseek", None, ON_ACCOUNT, ("api.deepseek.com",)),
    Preset("groq", None, ON_ACCOUNT, ("api.groq.com",)),
    Preset("mistral", None, ON_ACCOUNT, ("api.mistral.ai",)),
    Preset("xai", None, ON_ACCOUNT, ("api.x.ai",)),
)

#: Every preset by the identity of its pool.
PRESETS: Mapping[str, Preset] = MappingProxyType({preset.pool: preset for preset in _ALL})

#: The pool of every known endpoint.
HOSTS: Mapping[str, str] = MappingProxyType({host: preset.pool for preset in _ALL for host in preset.hosts})
