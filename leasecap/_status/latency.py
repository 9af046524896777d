"""What `leasecap status` shows of how long requests took."""

from __future__ import annotations

from datetime import UTC, datetime

from leasecap._config.time_outs import TimeOuts
from leasecap._feedback.histogram import percentile
from leasecap._feedback.latency import added, cliff, describe
from leasecap._status.model import ModelLatency, Percentiles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from leasecap._config.requests import Requests
    from leasecap._feedback.histogram import Histogram
    from leasecap._feedback.latency import Table


def rows(hours: Mapping[int, Table]) -> tuple[ModelLatency, ...]:
    """All rows, the oldest hour first; in an hour those with the most requests first."""
    found = []
    for hour, table in sorted(hours.items()):
        begin = datetime.fromtimestamp(hour * 3600, UTC).isoformat().replace("+00:00", "Z")
        for kind, row in sorted(table.items(), key=lambda one: (-one[1].first.n, one[0])):
            found.append(
                ModelLatency(begin, kind.model, kind.streamed, _percentiles(row.first), _percentiles(row.whole))
            )
    return tuple(found)


def _percentiles(series: Histogram) -> Percentiles:
    p50, p90, p99 = (percentile(series, percent) for percent in (50, 90, 99))
    return Percentiles(series.n, series.over, p50, p90, p99, series.highest if series.n else None)


def warnings(hours: Iterable[Table], requests: Requests) -> tuple[str, ...]:
    """The time-outs that answers came near to in these hours."""
    recent: Table = {}
    for table in hours:
        recent = added(recent, table)
    found = (
        cliff(kind, row, TimeOuts(requests, local=row.local).until_it_begins(kind.streamed))
        for kind, row in sorted(recent.items())
    )
    return tuple(describe(each) for each in found if each is not None)
