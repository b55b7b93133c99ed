"""How half a restore is told from a whole one: by two claims, on any backend.

A restore claims its target as node `RESTORING` before it copies anything, and claims it again as node `RESTORED` after
it has read everything back and compared the digests. What follows the first claim is provisional until the second.
Every reader that rebuilds state looks at the claims as they pass (`Completeness`), so a server, a digest or another
restore refuses half a copy wherever the restore was killed, even when another node claimed the log in between.
The two names begin with a control character, which no node may have in its name (cluster/topology.py). Version 0.1
wrote names that a user could choose too; they count only with what no node has: the source's URL as an address.
Nothing has to be renamed and no file stands beside the log, so this holds for zones that are mount points, and for
Kafka, alike.
"""

from __future__ import annotations

import re
from typing import Final

from eventdb.backends.log import Log, LogError, LogInfo, Record, RecordKind
from eventdb.replay.reading import reading, search_start

RESTORING: Final = "\x01restoring"
RESTORED: Final = "\x01restored"
_OLD: Final = {"eventdb-restoring": RESTORING, "eventdb-restored": RESTORED}
_ADDRESS: Final = re.compile(r".*:\d{1,5}")


class Incomplete(LogError):  # noqa: N818 - named as the errors of log.py are
    """The log holds part of a restore or an import that did not finish: nothing may be served from it.

    source: where that copy came from, as its claim states it; "" where it is not known.
    """

    def __init__(self, text: str, source: str = "") -> None:
        super().__init__(text)
        self.source = source


class Completeness:
    """Looks at every claim in log order."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.restoring = False  # after RESTORING, before RESTORED
        self._source = ""

    def claimed(self, record: Record) -> None:
        """Take a CLAIM record. Raises Incomplete when another node claimed half a restore."""
        node = claimant(record)
        if node == RESTORING:
            self.restoring = True
            self._source = record.body.decode("utf-8", "replace").partition(" ")[2]
        elif self.restoring and node != RESTORED:
            raise incomplete(self.url)
        else:
            self.restoring = False

    def check(self) -> None:
        """Call at the end of what is durable. Raises Incomplete."""
        if self.restoring:
            raise incomplete(self.url, self._source)


async def check_complete(log: Log) -> None:
    """The same without reading the whole log: for a reader that stops at a cut. Raises Incomplete.

    A restore takes only empty targets, so RESTORING is the first record; the next claim of another kind decides. There
    are several RESTORING in a row where a migration was interrupted and went on.
    """
    info = await log.info()
    completeness = Completeness(log.url)
    position = info.first_position
    async with reading(log, position) as stretches:
        async for stretch in stretches:
            if stretch.records:
                first = stretch.records[0]
                if first.kind is not RecordKind.CLAIM or claimant(first) != RESTORING:
                    return
                completeness.claimed(first)
                newest = first
                break
        else:
            return  # there is nothing in it
    while completeness.restoring and info.epoch > newest.epoch:
        newest = await _next_claim(log, info, newest)
        completeness.claimed(newest)
    completeness.check()


async def _next_claim(log: Log, info: LogInfo, after: Record) -> Record:
    """The claim that ended the epoch of `after`."""
    place = await search_start(log, info, lambda record: record.epoch <= after.epoch)
    async with reading(log, place) as stretches:
        async for stretch in stretches:
            for record in stretch.records:
                if record.kind is RecordKind.CLAIM and record.epoch > after.epoch:
                    return record
    raise incomplete(log.url)


def claimant(record: Record) -> str:
    """The node that a CLAIM record names; RESTORING or RESTORED for a restore."""
    node, _, address = record.body.decode("utf-8", "replace").partition(" ")
    if node in _OLD and address and not _ADDRESS.fullmatch(address):
        return _OLD[node]
    return node


def incomplete(url: str, source: str = "") -> Incomplete:
    """source: of a copy that nobody has claimed since, so that the same command may begin it anew."""
    again = f"Run that again ({source}), or delete it and begin again" if source else "Delete it and begin again"
    return Incomplete(
        f"{url} holds part of a restore or an import that did not finish (it was stopped, or is still running):"
        f" nothing can be served from it. {again}; the source is untouched",
        source,
    )
