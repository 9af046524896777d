"""What a shell completes, as the scripts of `leasecap completion` ask for it.

The answer is lines. The first gives its kind: ``values`` (each follows, with a tab and its meaning), ``files``,
``directories``, or ``command N``: from the Nth word on (for bash the Nth character) it is a command line of its own.
"""

from __future__ import annotations

import os
import sys

import click

from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

ENVIRONMENT = "_LEASECAP_COMPLETE"
"""The variable that says which shell asks. The arguments are the words up to the cursor; those of bash are its line and
``COMP_WORDBREAKS``."""

_KINDS = {"dir": "directories", "file": "files"}


class Answer(NamedTuple):
    """What can stand in place of the last word.

    :ivar kind: see the module.
    :ivar values: each value with its meaning.
    :ivar prefix: the part of the last word before the value (``--pool=``).
    :ivar command_at: index of the word with which a command of its own begins.
    """

    kind: str = "values"
    values: tuple[tuple[str, str], ...] = ()
    prefix: str = ""
    command_at: int = 0


class Word(NamedTuple):
    """A word of a line.

    :ivar at: where it begins in the line; ``text``: what it means.
    :ivar quote: the quote that is open at its end, or "".
    :ivar after_break: where what bash replaces begins in the raw word.
    """

    at: int
    text: str
    quote: str = ""
    raw: str = ""


def main(group: click.Group) -> None:
    """Answer the shell that asks."""
    shell, given = os.environ[ENVIRONMENT], sys.argv[1:]
    if shell == "bash":
        lines = _for_bash(group, given[0], given[1])
    else:
        answer = answer_to(group, given)
        # fish replaces the whole word; the script for zsh has set the prefix aside.
        prefix = answer.prefix if shell == "fish" else ""
        lines = _lines(answer, answer.command_at, [(prefix + value, means) for value, means in answer.values])
    print("\n".join(lines))


def _lines(answer: Answer, command_at: int, values: Sequence[tuple[str, str]]) -> list[str]:
    if answer.kind == "command":
        return [f"command {command_at}"]
    return [answer.kind, *("\t".join(pair) if pair[1] else pair[0] for pair in values)]


def _for_bash(group: click.Group, line: str, breaks: str) -> list[str]:
    words = split(line)
    answer = answer_to(group, [word.text for word in words[1:]])
    last = words[-1]
    values = []
    for value, _ in answer.values:
        # Inside quotes bash inserts the value as it is, and closes them. Else it replaces only what follows the last
        # character of COMP_WORDBREAKS, which to every other program is a part of the word.
        whole = value if last.quote else answer.prefix + _escaped(value)
        if not last.quote:
            broken = max((last.raw.rfind(each) for each in breaks if each not in " \t\n\"'"), default=-1) + 1
            whole = whole[broken:] if whole.startswith(last.raw[:broken]) else _escaped(value)
        values.append((whole, ""))
    return _lines(answer, words[min(answer.command_at, len(words) - 1)].at, values)


def _escaped(value: str) -> str:
    return "".join(char if char.isalnum() or char in "_-+./:=@%,~" else f"\\{char}" for char in value)


def split(line: str) -> list[Word]:
    """The words of a shell's line. The last one stands at the end of the line, and is empty after a blank."""
    words: list[Word] = []
    at, text, quote, escaped = -1, "", "", False
    for index, char in enumerate(line):
        if at < 0:
            if char in " \t\n":
                continue
            at, text = index, ""
        if escaped:
            text, escaped = text + char, False
        elif char == "\\" and quote != "'":
            escaped = True
        elif quote:
            text, quote = (text, "") if char == quote else (text + char, quote)
        elif char in "\"'":
            quote = char
        elif char in " \t\n":
            words.append(Word(at, text))
            at = -1
        else:
            text += char
    return [*words, Word(at, text, quote, line[at:]) if at >= 0 else Word(len(line), "")]


def answer_to(group: click.Group, words: Sequence[str]) -> Answer:
    """What completes the last one of the words that follow ``leasecap``."""
    *before, last = words or [""]
    verb_at = next((index for index, word in enumerate(before) if not word.startswith("-")), None)
    with click.Context(group, info_name="leasecap", **group.context_settings) as context:
        if verb_at is None:
            return _options(group, context, last) if last.startswith("-") else _verbs(group, context, last)
        verb = group.get_command(context, before[verb_at])
        if verb is None:
            return Answer()
        with click.Context(verb, info_name=before[verb_at], parent=context) as inner:
            return _in_verb(verb, inner, before, verb_at, last)


def _verbs(group: click.Group, context: click.Context, last: str) -> Answer:
    found = []
    for name in group.list_commands(context):
        verb = group.get_command(context, name)
        if verb is not None and name.startswith(last):
            found.append((name, verb.get_short_help_str(200)))
    return Answer(values=tuple(found))


def _in_verb(verb: click.Command, context: click.Context, before: Sequence[str], verb_at: int, last: str) -> Answer:
    options = {
        name: param for param in verb.get_params(context) if isinstance(param, click.Option) for name in param.opts
    }
    arguments = [param for param in verb.params if isinstance(param, click.Argument)]
    takes_command = verb.context_settings.get("allow_interspersed_args") is False
    wants: click.Option | None = None
    operands = 0
    ended = False  # by --
    for index in range(verb_at + 1, len(before)):
        word = before[index]
        if wants is not None:
            wants = None
        elif not ended and word == "--":
            ended = True
            if takes_command:
                return Answer("command", command_at=index + 2)  # counted from `leasecap`
        elif not ended and word.startswith("-") and word != "-":
            wants = _wanting(options, word)
        elif takes_command:
            return Answer("command", command_at=index + 1)
        else:
            operands += 1
    if wants is not None:
        return _values(wants, context, last)
    if not ended and last.startswith("-"):
        name, equals, value = last.partition("=")
        if not last.startswith("--"):
            name, equals, value = last[:2], last[2:], last[2:]  # -pPOOL
        if equals and name in options and _takes_value(options[name]):
            return _values(options[name], context, value)._replace(prefix=last.removesuffix(value))
        return _options(verb, context, last)
    if takes_command:
        return Answer("command", command_at=len(before) + 1) if last else _options(verb, context, "--")
    if operands < len(arguments) or (arguments and arguments[-1].nargs == -1):
        return _values(arguments[min(operands, len(arguments) - 1)], context, last)
    return Answer()


def _takes_value(option: click.Option) -> bool:
    return not (option.is_flag or option.count)


def _wanting(options: dict[str, click.Option], word: str) -> click.Option | None:
    """The option in this word whose value is the next one."""
    if word.startswith("--"):
        found = options.get(word)
        return found if found is not None and _takes_value(found) and not _may_stand_alone(found) else None
    for index, char in enumerate(word[1:], 1):
        found = options.get(f"-{char}")
        if found is not None and _takes_value(found):
            return found if index == len(word) - 1 else None  # if more letters follow, they are the value
    return None


def _may_stand_alone(option: click.Option) -> bool:
    return option.name in ("parent", "shell")


def _options(command: click.Command, context: click.Context, last: str) -> Answer:
    params = [param for param in command.get_params(context) if isinstance(param, click.Option) and not param.hidden]
    found = [(name, param.help or "") for param in params for name in param.opts if name.startswith(last)]
    return Answer(values=tuple(found))


def _values(param: click.Parameter, context: click.Context, last: str) -> Answer:
    items = param.shell_complete(context, last)
    kind = next((_KINDS[item.type] for item in items if item.type in _KINDS), "values")
    return Answer(kind, tuple((str(item.value), item.help or "") for item in items) if kind == "values" else ())
