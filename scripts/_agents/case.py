"""One case: a client, or two, under ``leasecap run --per-request`` with a limit of 1, and what must be true then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from provider import Provider
from provider_formats import WORDS, answer
from provider_steps import Latch, refuse

import leasecap
from leasecap._gate.clients import DETOURS, PROVIDERS, TOKEN_HEADER

from .clients import KEY, PREFIX
from .judge import Judge
from .packages import home_of, programs_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from provider_steps import Request, Step

    from .clients import Client
    from .network import Lookups

CALLERS = Path(__file__).parent / "callers"
PATIENCE = 120.0  # seconds for one case
TEXT = "".join(WORDS)
PUBLIC = {
    *(urlsplit(provider.origin).hostname for provider in PROVIDERS.values() if provider.origin.startswith("https:")),
    *(urlsplit(detour.origin).hostname for detour in DETOURS),
}
"""Where the clients would go by themselves."""


@dataclass(slots=True)
class Result:
    """What became of one case.

    :ivar requests: those that cost something, as the provider counted them.
    :ivar slots: how many of these had the pool's slot.
    :ivar broken: what is not as it must be.
    :ivar elsewhere: the hosts that the client asked for beside.
    """

    client: Client
    what: str
    requests: int = 0
    slots: int = 0
    seconds: float = 0.0
    broken: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)


class Run:
    """A client under the gate, in a home of its own; gone with all that it started when its block is left."""

    def __init__(self, client: Client, provider: Provider, pool: str, place: Path, build: Path) -> None:
        fill = {
            "{url}": provider.url + PREFIX,
            "{key}": KEY,
            "{python}": str(home_of(client, build) / "bin" / "python"),
            "{callers}": str(CALLERS),
        }

        def filled(text: str) -> str:
            for name, value in fill.items():
                text = text.replace(name, value)
            return text

        self._client, self._place = client, place
        # A repository of its own: the checkout is none of its business.
        for folder in ("home", "tmp", "work/.git/objects", "work/.git/refs"):
            (place / folder).mkdir(parents=True)
        (place / "work/.git/HEAD").write_text("ref: refs/heads/main\n")
        for name, text in client.files.items():
            path = place / "home" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(filled(text))
        given = {
            "PATH": os.pathsep.join([str(programs_of(client, build)), os.environ.get("PATH", os.defpath)]),
            "HOME": str(place / "home"),
            "TMPDIR": str(place / "tmp"),
            "LEASECAP_HOME": os.environ["LEASECAP_HOME"],
            "TERM": "dumb",
            "LANG": "C.UTF-8",
        }
        wrapper = (sys.executable, "-m", "leasecap", "run", "--per-request", "-p", pool, "--limit", "1", "--")
        with (place / "stdout").open("wb") as out, (place / "stderr").open("wb") as err:
            self.process = subprocess.Popen(
                [*wrapper, *map(filled, client.command)],
                cwd=place / "work",
                env=given | {name: filled(value) for name, value in client.variables.items()},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # all of it has ended
        self.process.wait()

    def said(self, name: str) -> str:
        return (self._place / name).read_text(errors="replace")

    def finish(self, deadline: float) -> list[str]:
        """Wait for its end; returns what is wrong with that."""
        try:
            status = self.process.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            return [f"it was not done after {PATIENCE:.0f} s", *self._last_words()]
        broken = []
        if status:
            broken += [f"its exit status was {status}", *self._last_words()]
        if self._client.retries and self._client.retries in self.said("stdout"):
            broken.append("it was refused, and tried again by itself")
        if TEXT not in self.said("stdout"):
            broken += [f"its answer lacks {TEXT!r}", *self._last_words("stdout")]
        return broken

    def _last_words(self, name: str = "stderr") -> list[str]:
        return [f"its {name}: {line}" for line in self.said(name).splitlines()[-4:] if line.strip()]


class Stage:
    """Where the cases are played.

    :ivar lookups: sees what is asked for outside; None where that can't be seen.
    """

    def __init__(self, build: Path, scratch: Path, lookups: Lookups | None) -> None:
        self._build, self._scratch, self._lookups = build, scratch, lookups
        self._played = 0

    def play(self, client: Client) -> Result:
        """One run that is answered at once."""
        return self._play(client, "", Judge(self._pool()))

    def play_refused(self, client: Client) -> Result:
        """The provider refuses twice, and the client must not notice."""
        refusals = (refuse(529, None, b"overloaded_error"), refuse(429, b"1"))
        judge = Judge(self._pool(), *refusals)
        result = self._play(client, "529 and 429 first", judge)
        if len(judge.metered) <= len(refusals):
            result.broken.append("it was refused, and nothing was sent again")
        if len({(request.head, bytes(request.body)) for request in judge.metered}) > 1:
            result.broken.append("what was sent again is not the same")
        return result

    def play_queue(self, client: Client) -> Result:
        """Two at once: the first request is answered once the other run waits, too."""
        latch = Latch()

        def held(request: Request) -> Step:
            return (latch, *answer(request))

        return self._play(client, "two sessions", Judge(self._pool(), held), latch)

    def _pool(self) -> str:
        self._played += 1
        return f"agents-{self._played}"

    def _play(self, client: Client, what: str, judge: Judge, latch: Latch | None = None) -> Result:
        result = Result(client, what)
        asked = len(self._lookups.names) if self._lookups else 0
        began = time.monotonic()
        place = self._scratch / judge.pool
        try:
            with Provider(1, default=judge) as provider:
                self._run(client, provider, judge, place, latch, result)
                result.broken += verdict(client, judge, provider.port, provider.most, provider.refused)
        except AssertionError as error:
            result.broken.append(f"the provider: {error}")
        result.seconds = time.monotonic() - began
        result.requests, result.slots = len(judge.metered), judge.slots
        if self._lookups:
            result.elsewhere = sorted(set(self._lookups.names[asked:]))
            if public := PUBLIC.intersection(result.elsewhere):
                result.broken.append(f"it went past the gate: it asked for {', '.join(sorted(map(str, public)))}")
        return result

    def _run(
        self, client: Client, provider: Provider, judge: Judge, place: Path, latch: Latch | None, result: Result
    ) -> None:
        deadline = time.monotonic() + PATIENCE
        with Run(client, provider, judge.pool, place / "1", self._build) as one:
            if latch is None:
                result.broken += one.finish(deadline)
                return
            with Run(client, provider, judge.pool, place / "2", self._build) as two:
                if not await_queue(judge.pool, {one.process.pid, two.process.pid}, deadline):
                    result.broken.append("the two never were in the queue at once")
                latch.set()
                result.broken += [*one.finish(deadline), *two.finish(deadline)]


def await_queue(pool: str, pids: set[int], deadline: float) -> bool:
    """Whether there was a moment at which one of these processes held the pool's slot and the other waited for it."""
    while time.monotonic() < deadline:
        for seen in leasecap.status(pool).pools:
            holding = {holder.pid for holder in seen.holders}
            waiting = {waiter.pid for waiter in seen.waiters}
            if len(holding) == 1 and holding | waiting == pids:
                return True
        time.sleep(0.02)
    return False


def verdict(client: Client, judge: Judge, port: int, most: int, refused: int) -> list[str]:
    """What is not as it must be in what the provider on ``port`` saw.

    :param most: requests in flight at once.
    """
    broken = []
    if not judge.metered:
        broken.append("no request came that costs something")
    if judge.slots != len(judge.metered):
        broken.append(f"{len(judge.metered) - judge.slots} requests came without a slot")
    if refused or most > 1:
        broken.append(f"{most} requests were in flight at once, and {refused} refused, at a limit of 1")
    for request in (*judge.metered, *judge.free):
        if not request.target.startswith(PREFIX.encode()):
            broken.append(f"the path of the base URL was altered: {request.target!r}")
        if request.values(b"host") != [f"127.0.0.1:{port}".encode()]:
            broken.append(f"this is not the provider's host: {request.values(b'host')}")
        if request.values(TOKEN_HEADER.encode()):
            broken.append("the gate's token went on to the provider")
    missing = set(client.arrivals)
    for request in judge.metered:
        fitting = [one for one in client.arrivals if request.target.startswith((PREFIX + one.path).encode())]
        missing.difference_update(fitting)
        if not fitting:
            broken.append(f"nobody asked for {request.target!r}")
        broken += [
            f"its key did not arrive in {one.header} as it was"
            for one in fitting
            if request.values(one.header.encode()) != [one.value.encode()]
        ]
    broken += [f"no request came for {one.path}" for one in missing]
    return list(dict.fromkeys(broken))
