"""What verbs have in common: messages to stderr, and types of options."""

from __future__ import annotations

import click

from leasecap._config.schema import parse_limit, parse_number
from leasecap._durations import parse_duration
from leasecap._redact import printable


def say(message: str) -> None:
    """Print a message to stderr. Each line begins with "leasecap:", and control characters are escaped."""
    for line in message.splitlines():
        click.echo(f"leasecap: {printable(line, 2000)}", err=True)


_MEANT = {
    "--concurrency": ("--limit",),
    "--jobs": ("--limit",),
    "--max": ("--limit", "--max-hold"),
    "--name": ("--pool", "--label"),
    "--nowait": ("--no-wait",),
    "--provider": ("--pool",),
    "--slots": ("--limit",),
    "--timeout": ("--wait", "--max-hold"),
    "--ttl": ("--max-hold",),
}
"""What other programs call an option, and what may be meant here. Click would name the ones that are spelt alike."""


class Verb(click.Command):
    """Refuses an option with a value that is given twice: click takes the last one and says nothing."""

    def make_parser(self, ctx: click.Context) -> click.parser._OptionParser:
        parser = super().make_parser(ctx)
        parse = parser.parse_args

        def parse_once(args: list[str]) -> tuple[dict[str, object], list[str], list[click.Parameter]]:
            try:
                options, rest, order = parse(args)
            except click.NoSuchOption as error:
                meant = _MEANT.get(error.option_name, ())
                known = [name for name in meant if any(name in param.opts for param in self.params)]
                if not known:
                    raise
                raise click.UsageError(f"{error.message} Did you mean {' or '.join(known)}?", ctx) from None
            for param in order:
                if isinstance(param, click.Option) and not param.is_flag and order.count(param) > 1:
                    raise click.UsageError(f"{' / '.join(param.opts)} is given more than once", ctx)
            return options, rest, order

        if not ctx.resilient_parsing:  # completion parses so
            parser.parse_args = parse_once  # type: ignore[method-assign]
        return parser


class Duration(click.ParamType[float]):
    """``1.5``, ``500ms``, ``30s``, ``5m``, ``1h``.

    :param zero: whether 0 can be meant.
    """

    name = "DUR"

    def __init__(self, *, zero: bool = True) -> None:
        self._zero = zero

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            seconds = parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if seconds == 0 and not self._zero:
            self.fail("it must be more than 0", param, ctx)
        return seconds


class Limit(click.ParamType[int]):
    """How many slots: digits alone.

    :param unlimited: whether the word can be meant.
    """

    name = "N"

    def __init__(self, *, unlimited: bool = False) -> None:
        self._parse = parse_limit if unlimited else parse_number

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value)
        try:
            # int() would take " 2", "1_0", "+2" and digits of other scripts.
            return self._parse(int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text)
        except ValueError as error:
            why = str(error).replace('"', "")  # quotes belong to the file
            self.fail(f"{printable(text, 40)!r}: {why}", param, ctx)
