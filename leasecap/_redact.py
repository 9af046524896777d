"""What may be recorded and shown of a command or a label: no keys, nothing that a terminal obeys.

Masking is a guess that rather hides too much: a masked word costs a reader little, a key in a log file may cost an
account. It makes no command line a safe place for keys: every process of the machine can read them there.
"""

from __future__ import annotations

from functools import lru_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Iterator, Sequence

MASK = "***"

# Of a longer word only the beginning is looked at: a whole prompt on the command line is common.
_LONGEST_WORD = 4096

_NAMES = (
    "key", "keys", "token", "secret", "secrets", "password", "passwd", "passphrase", "passcode", "pass", "pw", "pat",
    "auth", "authorization", "bearer", "credential", "credentials", "cookie", "jwt", "sig", "signature",
)  # fmt: skip
# These count at the end of a word without a separator too: apikey, authtoken, clientSecret. "pat" and "pass" don't, for
# the sake of compat and bypass.
_ENDINGS = (
    "key",
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "auth",
    "authorization",
    "credentials",
    "cookie",
)

# Marks that issuers put into their keys, in lower case.
_ISSUERS = (
    "sk-", "sk_", "pk-", "pk_", "rk-", "rk_", "gh", "github_pat_", "glpat-", "akia", "asia", "aiza", "ya29.", "xox",
    "xai-", "hf_", "gsk_", "r8_", "npm_", "pypi-", "pplx-", "tvly-", "dop_v1_", "sg.", "age-secret-key-", "eyj",
)  # fmt: skip

_LONG_RUN = 20  # characters; without any other sign a shorter run counts as no key

# Options of curl and its kin whose value is user:password.
_USERS = frozenset({"-u", "-U", "--user", "--proxy-user"})

_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=+:,./@%*~…")


def redact_argv(argv: Sequence[str], *, limit: int = 200) -> str:
    """One printable line of at most ``limit`` characters that shows a command, with ``***`` for what looks like a key.

    Words are quoted as a shell would need it, except that control characters and undecodable bytes are escaped.
    """
    words: list[str] = []
    length = 0
    hide = False
    before = ""
    for word in argv:
        if length > limit:
            break
        word = word[:_LONGEST_WORD]
        if hide and word.lower() in ("bearer", "basic", "token"):
            shown = word  # the scheme of an unquoted Authorization: Bearer ...
        elif before in _USERS and ":" in word:
            shown = f"{word.partition(':')[0]}:{MASK}"
        else:
            shown = MASK if hide else mask(word)
            hide = _announces_secret(word) and not hide
        before = word
        words.append(_quoted(printable(shown, _LONGEST_WORD)))
        length += len(words[-1]) + 1
    return _shortened(" ".join(words), limit)


def mask(text: str) -> str:
    """``text`` with ``***`` for every part that looks like a key, a password or a token."""
    if len(text) < 4:
        return text
    # A whole word NAME=value or Name: value; the value may hold blanks.
    for separator in "=:":
        name, found, value = text.partition(separator)
        if found and value and not value.startswith("//") and _is_secret_name(name):
            return f"{name}{separator}{' ' if value[0] == ' ' else ''}{MASK}"
    for pattern, replacement in _patterns(text):
        text = pattern.sub(replacement, text)
    if len(text) < _LONG_RUN:
        return text
    return _long_runs().sub(lambda run: MASK if _looks_random(run[0]) else run[0], text)


def printable(text: str, limit: int) -> str:
    """``text`` on one line of at most ``limit`` characters, with escapes for what a terminal could obey or hide.

    Escaped are control and format characters (also those that turn the direction of writing), line breaks, and bytes
    that could not be decoded.
    """
    if len(text) > limit:
        text = text[: limit + 1]
    if not text.isprintable():
        text = "".join(character if character.isprintable() else _escaped(character) for character in text)
    return _shortened(text, limit)


def _escaped(character: str) -> str:
    if character == "\u200d":  # joins emoji
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # os.fsdecode's stand-in for a byte that is no UTF-8
        code -= 0xDC00
    if code < 0x100:
        return {9: "\\t", 10: "\\n", 13: "\\r"}.get(code) or f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: max(0, limit - 1)] + "…"


def _quoted(word: str) -> str:
    if word and _SAFE.issuperset(word):
        return word
    return "'" + word.replace("'", "'\\''") + "'"


def _announces_secret(word: str) -> bool:
    """Whether the word after this one is a secret: ``--api-key``, ``-token``, ``Authorization:``, ``Bearer``."""
    if word.lower() == "bearer":
        return True
    if word.endswith((":", "=")):
        return _is_secret_name(word[:-1])
    return len(word) > 2 and word.startswith("-") and _is_secret_name(word)


def _is_secret_name(name: str) -> bool:
    """Whether what is called this is a secret: api_key, X-Api-Key, --token, GITHUB_PAT; not max_tokens, --no-auth."""
    if len(name) > 80:
        return False
    if name.startswith("-H"):  # curl -HAuthorization:...
        name = name[2:]
    parts = name.lstrip("-").lower().replace("-", "_").replace(".", "_").strip("\"' ").split("_")
    if parts[0] == "no" or not all(part.isalnum() or not part for part in parts):
        return False
    return any(part in _NAMES or part.endswith(_ENDINGS) for part in parts)


def _patterns(text: str) -> Iterator[tuple[re.Pattern[str], str]]:
    """The patterns that may match, and their replacements. Each pattern needs a mark, which is looked for first.

    To compile all of them would be most of a process's first acquire.
    """
    import re  # imported here, so that it costs nothing where no command is recorded

    lower = text.casefold()  # as (?i) does: the long s is an s
    for marks, pattern, replacement in _table():
        if all(any(mark in lower for mark in some) for some in marks):
            yield re.compile(pattern), replacement  # re keeps what it has compiled


@lru_cache(maxsize=1)
def _table() -> tuple[tuple[tuple[Sequence[str], ...], str, str], ...]:
    """Marks (one of each group has to be there, in lower case), pattern, replacement."""
    names = "|".join(_NAMES)
    endings = "|".join(_ENDINGS)
    # Possessive where it can be (*+, ?+), which is far faster for a word like key_key_key_...
    name = rf"(?:[\w.-]*[_.-])?(?:{names})(?:[_.-][\w.-]*+)?+|[\w.-]*(?:{endings})"
    return (
        # scheme://user:password@host; a password may hold a slash
        ((("://",), ("@",)), r"(://)(?:[^/\s@:\"']*:[^\s\"']*|[^/\s?#\"']*)@", rf"\1{MASK}@"),
        # user:password@host, as curl -u and git write it
        (((":",), ("@",)), r"(?<![\w.:/-])([\w.-]+:)[^\s@/\"']+(?=@[\w.-])", rf"\1{MASK}"),
        # Authorization and Cookie inside a longer word: to the end of the line or of the quotes
        (
            (("authorization", "cookie"), (":",)),
            r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie)(\s*:\s*)[^\n\"']+",
            rf"\1\2{MASK}",
        ),
        ((("bearer",),), r"(?i)\b(bearer\s+)[^\s\"']+", rf"\1{MASK}"),
        # name=value, name: value, "name": "value" inside a longer word (a script, JSON, a query)
        (
            (_NAMES, ":="),
            rf"(?i)(?<![\w.-])({name})([\"']?\s*+[:=]\s*+)(?:\"[^\"]*\"?|'[^']*'?|[^\s\"'&;,}}]+)",
            rf"\1\2{MASK}",
        ),
        # --name value inside a longer word
        (
            (_NAMES, "-"),
            rf"(?i)(?<![\w-])(--?(?:{name})\s+)(?:\"[^\"]*\"?|'[^']*'?|[^\s\"';]+)",
            rf"\1{MASK}",
        ),
        # what issuers mark themselves
        (
            (_ISSUERS,),
            (
                r"(?<![A-Za-z0-9])(?:"
                r"(?:sk|pk|rk)[-_][\w-]{4,}|gh[a-z]_\w{4,}|github_pat_\w{4,}|glpat-[\w-]{4,}|(?:AKIA|ASIA)[A-Z0-9]{8,}"
                r"|AIza[\w-]{8,}|ya29\.[\w.-]+|xox[a-z]-[\w-]{4,}|xai-[\w-]{8,}|hf_\w{8,}|gsk_\w{8,}|r8_\w{8,}|npm_\w{8,}"
                r"|pypi-[\w-]{8,}|pplx-\w{8,}|tvly-[\w-]{8,}|dop_v1_\w{8,}|SG\.[\w.-]{8,}|AGE-SECRET-KEY-\w+"
                r"|eyJ[\w-]{4,}(?:\.[\w-]*)*"
                r")"
            ),
            MASK,
        ),
        ((("private key",),), r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*", MASK),
    )


def _long_runs() -> re.Pattern[str]:
    import re

    return re.compile(rf"[A-Za-z0-9_+/=~-]{{{_LONG_RUN},}}")


def _looks_random(run: str) -> bool:
    """Whether a run of key characters looks random, and not like words joined by separators."""
    for piece in run.replace("=", "/").replace("~", "/").split("/"):
        solid = max(piece.replace("+", "_").replace("-", "_").split("_"), key=len)
        if len(solid) >= 32:  # no word is that long; hex and base62 keys are
            return True
        has_digits = any(character.isdigit() for character in piece)
        if len(piece) >= 20 and has_digits and _turns(piece) >= 0.3:
            return True
        if len(piece) >= 20 and _turns(piece) >= 0.45:
            return True
    # base64 with slashes has short pieces too, but paths have few turns
    return len(run) >= 32 and _turns(run) >= 0.3


def _turns(text: str) -> float:
    """The share of neighbouring letters and digits that change between digit, upper case and lower case."""
    from itertools import pairwise

    kinds = ["d" if c.isdigit() else "u" if c.isupper() else "l" if c.isalpha() else "" for c in text]
    pairs = [(one, two) for one, two in pairwise(kinds) if one and two]
    return sum(one != two for one, two in pairs) / max(1, len(pairs))
