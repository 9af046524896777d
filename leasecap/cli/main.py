"""The command line: one file per verb, loaded when it is called."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys

import click

from leasecap import __version__, _log
from leasecap._errors import LeasecapError
from leasecap._faults import store_error
from leasecap.cli import _streams
from leasecap.cli._say import say

VERBS = (
    "run", "gate", "acquire", "release", "status", "limit", "report", "pause", "resume", "forget", "policy", "doctor",
    "completion",
)  # fmt: skip

_COMPLETE = "_LEASECAP_COMPLETE"  # the same as in `_complete`, which is loaded only for completion

WRONG_USAGE, OWN_FAILURE_OF_RUN = 2, 125
"""`run` keeps every status below 125 for the command it runs, as env and timeout do."""


class _Verbs(click.Group):
    """Loads a verb's module when it is called: `run` must not pay for tomlkit, nor `status` for signals."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"leasecap.cli.{cmd_name}").command
        # The first sentence, whole: click would cut it off at the width of the terminal.
        command.short_help = " ".join((command.help or "").partition("\n\n")[0].split()).partition(". ")[0].rstrip(".:")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            near = get_close_matches(args[0].lower(), VERBS, n=1)
            if not near:
                raise
            raise click.UsageError(f"{error.message} Did you mean {near[0]}?", ctx) from None


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="leasecap")
def cli() -> None:
    """Share N slots per provider between all agents on this machine.

    \b
    leasecap run -p anthropic --limit 4 -- claude -p "fix the tests"
    leasecap status
    """


def main() -> None:
    """The console script. Exits with 2 for wrong usage and 1 for a failure; `run` with 125 for either."""
    if _COMPLETE in os.environ:
        from leasecap.cli import _complete

        _complete.main(cli)
        return
    _streams.prepare()
    _log.sink = say
    of_run = next((word for word in sys.argv[1:] if not word.startswith("-")), "") == "run"
    failed = OWN_FAILURE_OF_RUN if of_run else 1
    try:
        status = cli.main(prog_name="leasecap", standalone_mode=False)
        sys.stdout.flush()
    except _streams.OutputError as error:
        _streams.give_up_output(error)
        say(str(error))
        status = failed
    except click.ClickException as error:
        error.show()
        status = WRONG_USAGE if isinstance(error, click.UsageError) and not of_run else failed
    except LeasecapError as error:
        say(str(error))
        status = failed
    except OSError as error:
        # Mostly no descriptor is left, and a module or a directory can't be opened.
        say(str(store_error(error, str(error.filename or "the system"))))
        status = failed
    except click.Abort:
        # click raises this for Ctrl-C. The process dies of SIGINT, so that a shell loop round it ends as well.
        _streams.die_of(signal.SIGINT)
    # What is left goes with the process. Without this Python would look through all of it for cycles at exit.
    gc.freeze()
    sys.exit(status)
