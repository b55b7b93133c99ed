"""Whether a snapshot and a log belong together: asked before a snapshot is loaded to stand in for what the log said.

The name of a log does not prove it: an older copy of the log that was put back, and written to since, has the same
name and other transactions at the same offsets. The running checksum in the manifest does.
"""

from __future__ import annotations

from eventdb.backends.log import Corrupt, Log, LogError, LogInfo, Trimmed
from eventdb.replay.manifest import Manifest
from eventdb.replay.reading import reading


class OtherLog(LogError):  # noqa: N818 - named as the errors of log.py are
    """The snapshot was made from another log."""


class NewerThanLog(LogError):  # noqa: N818 - named as the errors of log.py are
    """The snapshot holds transactions that the log does not have."""


def check_fits(manifest: Manifest, info: LogInfo) -> None:
    """Raises OtherLog, NewerThanLog."""
    if manifest.log_id and info.log_id and manifest.log_id != info.log_id:
        raise OtherLog(
            f"snapshot {manifest.name} was made from log {manifest.log_id}, and {info.url} is log {info.log_id}"
        )
    if manifest.offset > info.last_offset:
        raise NewerThanLog(
            f"snapshot {manifest.name} holds transactions up to {manifest.offset}, and {info.url} ends at"
            f" {info.last_offset}: the log has lost its end, or it is an older copy of it"
        )


async def check_continues(log: Log, start: Manifest, info: LogInfo | None = None) -> None:
    """Whether the log goes on from the snapshot. Raises OtherLog, NewerThanLog, Trimmed, Corrupt."""
    check_fits(start, info or await log.info())
    async with reading(log, start.position, after=start.checksum) as stretches:
        async for stretch in stretches:
            if stretch.records:
                return  # it follows what the snapshot was made from, or the backend would have refused
    if start.checksum >= 0 and start.position > 0:
        await _check_last(log, start)


async def check_gives(log: Log, start: Manifest, offset: int | None, info: LogInfo | None = None) -> None:
    """Whether a way to the log's state at `offset` (None: at its end) may begin with the snapshot.

    It may where the log goes on from it. Where its place was trimmed away it may be that very state. Raises as
    `check_continues`.
    """
    try:
        await check_continues(log, start, info)
    except Trimmed:
        if start.offset != offset:
            raise


async def _check_last(log: Log, start: Manifest) -> None:
    """Nothing comes after the snapshot yet: then the last record must be the one that it was made from."""
    last = -1
    async with reading(log, await log.seek(start.offset + 1)) as stretches:
        async for stretch in stretches:
            for record in stretch.records:
                if record.position < start.position:
                    last = record.checksum
    if last not in (-1, start.checksum):
        raise Corrupt(f"snapshot {start.name} was made from a history that {log.url} does not have any more")
