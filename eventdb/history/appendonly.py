"""Import of what Redis appends to: one file, or a folder with a manifest, as the beginning of a new log.

What Redis loads is loaded: a beginning in RDB, #TS: notes (the times of the transactions), a last file that was cut
off in the middle of a command or of a MULTI, which is left out and named. Damage anywhere else is named with its byte.
Source: redis src/aof.c aofLoadManifestFromFile, loadAppendOnlyFiles.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from eventdb.backends.log import Log
from eventdb.history.importing import CheckUser, FileCopy, FileProgress
from eventdb.history.incoming import RECORD_BYTES, Incoming, make_engine
from eventdb.rdb.aof import CommandReader
from eventdb.rdb.codes import BadRdb
from eventdb.rdb.reader import FileReader
from eventdb.rdb.source import Source
from eventdb.replay.filling import Filling, OnPhase, begin, check_empty, state_of
from eventdb.replay.follower import PROGRESS_S, collector_paused
from eventdb.replay.machine import MachineFactory

READ_BYTES: Final = 1 << 20
MANIFEST_BYTES_MAX: Final = 1 << 20
LINE_WORDS: Final = 6  # file NAME seq N type b


@dataclass(slots=True)
class Appended:
    """What an import of commands ended with."""

    offset: int = 0
    key_count: int = 0
    digest: str = ""
    file_bytes: int = 0
    seconds: float = 0.0
    command_count: int = 0
    time_ms: int = 0  # of the last #TS: note that was passed
    facts: dict[str, str] = field(default_factory=dict)  # what a beginning in RDB says about itself
    skipped: dict[str, int] = field(default_factory=dict)
    cut: str = ""  # what was left out at the end, and why


def find_manifest(path: Path) -> Path | None:
    """The manifest of a folder, of the folder inside a server's folder, or the file itself; None: it is no folder."""
    if path.is_file():
        return path if path.suffix == ".manifest" else None
    for folder in (path, path / "appendonlydir"):
        found = sorted(folder.glob("*.manifest"))
        if len(found) > 1:
            raise BadRdb(f"there are {len(found)} manifests in {folder}: name one of them")
        if found:
            return found[0]
    raise BadRdb("it is a folder without a manifest (*.manifest), so no appendonlydir of Redis 7")


def read_manifest(path: Path) -> list[Path]:
    """The files in the order in which they were written: the base, then what was appended. Raises BadRdb."""
    with path.open("rb") as file:
        text = file.read(MANIFEST_BYTES_MAX + 1)
    if len(text) > MANIFEST_BYTES_MAX:
        raise BadRdb("its manifest is too large to be one")
    base: list[Path] = []
    increments: list[Path] = []
    newest = -1
    for number, line in enumerate(text.decode("utf-8", "surrogateescape").splitlines(), 1):
        if line.startswith("#"):
            continue
        words = _words(line)
        if len(words) < LINE_WORDS or len(words) % 2:
            raise BadRdb(f"line {number} of its manifest is none: {line[:80]!r}")
        said = dict(zip(words[::2], words[1::2], strict=True))
        name, kind, order = said.get("file", ""), said.get("type", ""), said.get("seq", "")
        if not name or "/" in name or name in (".", "..") or kind not in ("b", "h", "i") or not order.isdecimal():
            raise BadRdb(f"line {number} of its manifest is none: {line[:80]!r}")
        if kind == "b":
            if base:
                raise BadRdb(f"line {number} of its manifest names a second base")
            base.append(path.parent / name)
        elif kind == "i":
            if int(order) <= newest:
                raise BadRdb(f"line {number} of its manifest is out of order: {line[:80]!r}")
            newest = int(order)
            increments.append(path.parent / name)
    found = base + increments
    if not found:
        raise BadRdb("its manifest names no file")
    for file_path in found:
        if not file_path.is_file():
            raise BadRdb(f"its manifest names {file_path.name}, which is not there")
    return found


def _words(line: str) -> list[str]:
    """Words between spaces; in double quotes with backslashes where a name has spaces."""
    found: list[str] = []
    at = 0
    while at < len(line):
        if line[at] in " \t\r":
            at += 1
        elif line[at] == '"':
            word = ""
            at += 1
            while at < len(line) and line[at] != '"':
                if line[at] == "\\" and at + 1 < len(line):
                    at += 1
                word += line[at]
                at += 1
            found.append(word)
            at += 1
        else:
            end = at
            while end < len(line) and line[end] not in " \t\r":
                end += 1
            found.append(line[at:end])
            at = end
    return found


class _Stop(Exception):  # noqa: N818 - it is no error
    """--to-time is reached."""


class _Import:
    """The pass over all files."""

    def __init__(
        self, filling: Filling, skip: bool, to_ms: int | None, check_user: CheckUser | None, progress: FileProgress
    ) -> None:
        self.filling = filling
        self.skip = skip
        self.to_ms = to_ms
        self.check_user = check_user
        self.progress = progress
        self.engine = make_engine()
        self.incoming = Incoming(self.engine, filling, 0, strict=False, skip=skip)
        self.done = Appended()
        self.reported = 0.0
        self.before = 0  # bytes of the files before this one

    async def file(self, path: Path, last: bool, on_progress: OnPhase | None) -> None:
        self.incoming.queue = None
        self.incoming.client.db = self.engine.store.keyspace.dbs[0]
        with path.open("rb") as file:
            head = file.read(6)
            file.seek(0)
            rest, at = b"", 0
            if head.startswith((b"REDIS", b"VALKEY")):
                rest, at = await self._preamble(path, file, on_progress)
            try:
                await self._commands(file, CommandReader(at), rest, on_progress, last)
            except BadRdb as error:
                raise type(error)(f"{path.name}: {error}") from None
        self.before += path.stat().st_size

    async def _preamble(self, path: Path, file: BinaryIO, on_progress: OnPhase | None) -> tuple[bytes, int]:
        """Returns what was read after the RDB part, and where that begins."""
        if self.incoming.offset:
            raise BadRdb(f"{path.name} is an RDB file, and only the first file may be one")
        source = Source(b"", file.read)
        try:
            reader = FileReader(source, self.skip, goes_on=True)
            copy = FileCopy(reader, self.filling, self.engine, self.progress, self.check_user)
            copy.mtime_ms = int(1000 * path.stat().st_mtime)
            await copy.run(on_progress)
        except BadRdb as error:
            raise type(error)(f"{path.name}: {error}") from None
        self.incoming.offset = copy.offset
        self.incoming.time_ms = copy.time_ms
        self.done.facts = reader.facts
        self.incoming.skipped.update(reader.skipped)
        return source.data[source.at : source.end], source.position()

    async def _commands(
        self, file: BinaryIO, reader: CommandReader, data: bytes, on_progress: OnPhase | None, last: bool
    ) -> None:
        incoming = self.incoming
        whole_at = reader.whole_at  # before the MULTI that is open
        while True:
            reader.feed(data)
            while (argv := reader.next()) is not None:
                if reader.time_ms > incoming.now_ms:
                    if self.to_ms is not None and reader.time_ms > self.to_ms:
                        raise _Stop
                    incoming.flush()
                    incoming.now_ms = reader.time_ms
                if incoming.run(argv, reader.whole_at):
                    whole_at = reader.whole_at
                if incoming.waiting_bytes >= RECORD_BYTES:
                    incoming.flush()
                    await self.filling.room()
            await asyncio.sleep(0)
            self._report(reader, on_progress)
            data = file.read(READ_BYTES)
            if not data:
                break
        if incoming.queue is None and reader.is_between():
            return
        what = "MULTI" if incoming.queue is not None else "command"
        if not last:
            raise BadRdb(f"it ends in the middle of a {what} that begins at byte {whole_at}, and is not the last file")
        self.done.cut = (
            f"{Path(file.name).name} ends in the middle of a {what}: what begins at byte {whole_at} is left out"
        )

    def _report(self, reader: CommandReader, on_progress: OnPhase | None) -> None:
        now = time.monotonic()
        if on_progress is None or now - self.reported < PROGRESS_S:
            return
        self.reported = now
        progress = self.progress
        progress.offset = progress.transactions = self.incoming.offset
        progress.read_bytes = self.before + reader.whole_at
        progress.seconds = now - progress.started
        on_progress("copy", progress)


async def import_appended(
    paths: list[Path],
    target: Log,
    make_machine: MachineFactory,
    *,
    name: str,
    skip: bool = False,
    to_ms: int | None = None,
    on_progress: OnPhase | None = None,
    check_user: CheckUser | None = None,
) -> Appended:
    """Fill the empty log `target` from the files, in their order; to_ms: not what was written after that second.

    Raises BadRdb and Unkept for the files, and what filling a log raises.
    """
    began = time.monotonic()
    await check_empty(target, f"aof:{name}")
    size = sum(path.stat().st_size for path in paths)
    filling = await begin(target, f"aof:{name}")
    work = _Import(filling, skip, to_ms, check_user, FileProgress(size))
    done = work.done
    try:
        with collector_paused():
            try:
                for path in paths:
                    await work.file(path, path is paths[-1], on_progress)
            except _Stop:
                pass
            if to_ms is not None and not work.incoming.now_ms:
                raise BadRdb("it has no notes of the time (aof-timestamp-enabled) before that: --to-time finds nothing")
            work.incoming.flush()
            await filling.room(0)
    finally:
        await filling.close()
    done.offset = work.incoming.offset
    done.key_count, done.digest = state_of(work.engine)
    done.command_count, done.skipped = work.incoming.command_count, work.incoming.skipped
    done.time_ms, done.file_bytes = work.incoming.now_ms, size
    del work
    await filling.prove(make_machine, done.offset, done.key_count, done.digest, on_progress)
    done.seconds = time.monotonic() - began
    return done
