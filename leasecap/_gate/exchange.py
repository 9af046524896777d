"""One request, from its head to the end of its answer: a slot round the call, and nothing of it altered."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack, asynccontextmanager
from functools import partial

from leasecap import _ancestry
from leasecap._api import acquire_async_with
from leasecap._errors import LeasecapError
from leasecap._gate import head
from leasecap._gate.head import Refused
from leasecap._gate.patience import Patience
from leasecap._gate.route import UpstreamError
from leasecap._gate.upstream import Origin
from leasecap._latency import Timed
from leasecap._liveness.record import Purpose
from leasecap._log import log_warning
from leasecap._provider.absorb import REFUSALS, decide, refusal, refusal_of, to_report
from leasecap._provider.events import HELD_AT_MOST, AnswerReader
from leasecap._provider.reading import read_request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import h11

    from leasecap._gate.bodies import Body
    from leasecap._gate.downstream import Downstream
    from leasecap._gate.shared import Shared
    from leasecap._gate.terms import Terms
    from leasecap._gate.upstream import Answer
    from leasecap._lease import Lease
    from leasecap._provider.absorb import PoolReport, Refusal
    from leasecap._provider.places import Kept
    from leasecap._provider.reading import RequestFacts
    from leasecap._provider.tasks import Task


HELD_FOR = 5.0
"""Seconds from the first of an answer's body after which it goes out with the next piece, whatever is known by then."""


class Exchange:
    """A request that has been let in."""

    def __init__(self, shared: Shared, down: Downstream, request: h11.Request, target: bytes, terms: Terms) -> None:
        self._shared = shared
        self._down = down
        self._request = request
        self._target = target
        self._terms = terms
        self._headers = head.to_upstream(request, terms.upstream.authority)
        self._began = time.monotonic()
        self._task: Task | None = None

    # -- without a slot -----------------------------------------------------------------------------------------------

    async def pass_through(self) -> None:
        """Send it on, and the answer back, both as they come."""
        has_body = head.body_length(self._request) != 0
        if not has_body:
            await self._down.skip_body()
        answer = await self._send(self._down.body() if has_body else None)
        try:
            self._start(answer)
            self._down.flush_soon()  # its body may take its time
            while piece := await answer.read():
                await self._down.send(piece)
        finally:
            answer.close()

    # -- with a slot --------------------------------------------------------------------------------------------------

    async def meter(self, pool: str) -> None:
        """Wait for a slot of ``pool``, send it on, and the answer back; the slot is free once the answer has ended."""
        self._down.keep_waiting()
        with self._shared.room.holding() as holding:
            body = await holding.read(self._down, head.body_length(self._request))
            if not body.can_be_sent_again:
                self._down.look_for_its_end()
            facts = read_request(
                self._target,
                self._header(b"content-type"),
                self._header(b"content-encoding"),
                body.start or b"",
                prompt=self._terms.by_task,
            )
            key = partial(self._key, body.start or b"") if body.can_be_sent_again else None
            with self._shared.places.keeping(key, self._terms.keep_place) as kept:
                if self._terms.by_task:
                    self._task = self._shared.tasks.of(facts.prompt, self._who())
                await self._attempts(pool, body, facts, kept)

    def _who(self) -> list[bytes]:
        credentials = map(self._header, (b"authorization", b"x-api-key", b"x-goog-api-key"))
        return [self._terms.upstream.name.encode(), *credentials]

    def _key(self, body: bytes) -> bytes:
        """What says that another request is this one again."""
        return self._shared.places.key(self._target, *self._who(), body)

    async def _attempts(self, pool: str, body: Body, facts: RequestFacts, kept: Kept) -> None:
        attempt = 1
        while True:
            async with self._slot(pool, facts, kept) as lease:
                again = await self._attempt(lease, body, facts, attempt)
            if again is None:
                kept.done = True
                return
            attempt += 1
            await asyncio.sleep(again)

    @asynccontextmanager
    async def _slot(self, pool: str, facts: RequestFacts, kept: Kept) -> AsyncIterator[Lease]:
        options = self._terms.options
        agent = self._shared.program or head.agent(self._request)
        purpose = Purpose(agent, self._terms.upstream.name, facts.model)
        with ExitStack() as lent:
            if options.borrow:
                for reference in await self._down.asker.leases(pool, options):
                    lent.enter_context(_ancestry.running(reference))
            since = None if self._task is None else self._task.began
            options = options._replace(place=kept.place, task_since=since, purpose=purpose, on_lost=_log_lost)
            lease = await acquire_async_with(pool, options)
        async with lease:
            yield lease

    async def _attempt(self, lease: Lease, body: Body, facts: RequestFacts, attempt: int) -> float | None:
        """Send it once. Returns the seconds until it may be sent again; None: it was answered."""
        try:
            # Before the time-outs inside it: each of those is told in its own way.
            async with asyncio.timeout(None if lease.hold is None else lease.hold.max_hold) as held:
                return await self._answered(lease, body, facts, attempt)
        except TimeoutError:
            if not held.expired():
                raise
            raise Refused(504, f"the request held its slot for longer than max_hold of pool {lease.pool}") from None

    async def _answered(self, lease: Lease, body: Body, facts: RequestFacts, attempt: int) -> float | None:
        terms, timed = self._terms, Timed(lease.root, lease.pool, facts, self._terms.upstream.host)
        patience = terms.first_byte_timeout if facts.streams else terms.answer_timeout
        with ExitStack() as ending:
            try:
                async with Patience(patience):
                    answer = await self._send(body.content())
                    ending.callback(answer.close)
                    await answer.begin()  # some servers send a head at once, and think then
            except TimeoutError:
                # Never sent again: the provider may still be at work on it.
                timed.begins()
                timed.note_begin()
                self._report(lease, to_report(None, late=True))
                raise Refused(504, f"no answer began within {patience:g} s") from None
            timed.begins()
            lease.note_answer()
            idle = terms.idle_timeout if facts.streams else terms.answer_timeout
            return await self._relay(lease, answer, idle, timed, attempt, replayable=body.can_be_sent_again)

    async def _relay(
        self, lease: Lease, answer: Answer, idle: float | None, timed: Timed, attempt: int, *, replayable: bool
    ) -> float | None:
        """Give the client the answer, unless it is a refusal that is kept from it."""
        reader = AnswerReader(answer.status, answer.headers, None if self._task is None else self._task.is_followed)
        held: list[bytes] = []
        try:
            await self._hold(answer, idle, reader, held)
        except BaseException:  # the client has left, or the provider broke off: a refusal is one all the same
            self._report(lease, to_report(None, _refusal(answer, reader, held)))
            raise
        refused = _refusal(answer, reader, held)
        self._report(lease, to_report(answer.status, refused, ttfb=timed.ttfb))
        if refused is not None:
            again = decide(
                refused,
                elapsed=time.monotonic() - self._began,
                absorb=self._terms.absorb,
                attempt=attempt,
                replayable=replayable,
                jitter=self._shared.jitter(),
            )
            if again is not None:
                return again
        elif answer.status < 400:
            timed.note_begin()
            if self._task is not None:
                self._task.answered = True
        try:
            self._start(answer)
            for piece in held:
                await self._down.send(piece)
            await self._down.flush()  # the first event doesn't wait for those behind it
            while piece := await self._piece(answer, idle):
                reader.feed(piece)
                await self._down.send(piece)
        finally:
            # Clients leave when they read an error, and the pool has to know of it before the slot is another's.
            reader.end()
            if refused is None and reader.fault is not None:
                self._report(lease, to_report(None, refusal_of(reader.fault)))
        if refused is None and reader.fault is None and answer.status < 400:
            timed.note_end()
        return None

    async def _hold(self, answer: Answer, idle: float | None, reader: AnswerReader, held: list[bytes]) -> None:
        """Put into ``held`` what has to be known of the answer before its head goes out: a refusal, or an error at its
        beginning."""
        size, until = 0, time.monotonic() + HELD_FOR
        refuses = answer.status in REFUSALS
        while not reader.first_is_whole or (refuses and size < HELD_AT_MOST):
            # A stream may begin with comments alone that keep it alive, for as long as its model thinks.
            if time.monotonic() > until:
                break
            piece = await self._piece(answer, idle)
            if not piece:
                reader.end()
                break
            held.append(piece)
            size += len(piece)
            reader.feed(piece)

    async def _piece(self, answer: Answer, idle: float | None) -> bytes:
        try:
            async with Patience(idle):
                return await answer.read()
        except TimeoutError:
            raise UpstreamError("timeout", f"nothing came of the answer for {idle:g} s") from None

    # -- both ---------------------------------------------------------------------------------------------------------

    async def _send(self, content: bytes | AsyncIterator[bytes] | None) -> Answer:
        up, method, target = self._terms.upstream, self._request.method, self._target
        origin = Origin(up.scheme, up.host, up.port)
        return await self._shared.client.send(origin, method, target, self._headers, content)

    def _start(self, answer: Answer) -> None:
        self._down.start(answer.status, answer.reason, head.to_client(answer.headers))

    def _header(self, wanted: bytes) -> bytes:
        return next((value for name, value in self._request.headers if name == wanted), b"")

    def _report(self, lease: Lease, report: PoolReport | None) -> None:
        """What the provider's answer does to the pool must never be this request's trouble."""
        try:
            if report is None:
                return
            ttfb = report.ttfb
            if report.kind is None and ttfb is not None:
                ttfb = self._shared.first_bytes.note(lease.pool, ttfb, time.monotonic())
                if ttfb is None:
                    return
            lease.tell(report.status, retry_after=report.retry_after, kind=report.kind, ttfb=ttfb)
        except (LeasecapError, OSError) as error:
            log_warning(f"what the provider answered could not be noted: {error}")


def _refusal(answer: Answer, reader: AnswerReader, held: list[bytes]) -> Refusal | None:
    """What the beginning of the answer says."""
    refused = refusal(answer.status, answer.headers, b"".join(held), time.time())
    if refused is None and reader.fault is not None and not reader.had_begun:  # else what came together decided
        refused = refusal_of(reader.fault)
    return refused


def _log_lost(lease: Lease) -> None:
    if not lease.expired:  # then it is broken off
        log_warning(f"the slot of a request to {lease.pool} was lost ({lease.loss}): the request ran on beside the cap")
