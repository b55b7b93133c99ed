"""What the commands print with, and how they end.

Results go to stdout; progress, hints and errors to stderr. On a terminal progress is a bar that goes away when it is
done, elsewhere a plain line every few seconds, as a log file wants it.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from eventdb.cli.log_lines import writes_json

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from eventdb.backends import Log, LogInfo
    from eventdb.replay.follower import Progress
    from eventdb.replay.machine import Machine
    from eventdb.replay.store import SnapshotStore

AsJSON = Annotated[bool, typer.Option("--json", help="JSON for programs.")]
T = TypeVar("T")

QUIET_S = 1.0  # work shorter than this shows no progress
LINE_S = 5.0  # between two plain progress lines
VERBS = {
    "replay": "replaying",
    "copy": "copying",
    "verify": "reading back",
    "load": "loading a snapshot",
    "write": "writing the snapshot",
}


def fail(text: str, code: int = 1, *, lines: bool = False) -> NoReturn:
    """Print one line on stderr, or with `lines` those of the text, and end the command."""
    first, _, rest = text.partition("\n")
    if writes_json():
        logging.getLogger("eventdb").error("%s", " ".join(text.split()))
    else:
        more = "\n" + rest if lines else " " + " ".join(rest.split())
        typer.echo(f"eventdb: {first}{more if rest else ''}", err=True)
    raise typer.Exit(code)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work; whatever a user can meet becomes one line and an exit code, never a traceback."""
    import asyncio

    from eventdb.backends import LogError
    from eventdb.rdb.codes import BadRdb

    try:
        return asyncio.run(work)
    except BrokenPipeError:  # `eventdb log tail | head`: nobody reads any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except KeyboardInterrupt:
        typer.echo("", err=True)
        raise typer.Exit(130) from None
    except (LogError, BadRdb) as error:
        fail(str(error) or type(error).__name__)
    except OSError as error:
        fail(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""))
    except MemoryError:
        fail("out of memory: the state does not fit")


def open_source(url: str, *, foresee: bool = True) -> Log:
    """The Log at `url`. A URL that cannot be one ends the command. foresee: see backends/log.py."""
    from eventdb.backends import BadLogURL, LogError, open_log

    try:
        return open_log(url, foresee=foresee)
    except BadLogURL as error:
        fail(str(error), code=2)
    except LogError as error:  # the keys in EVENTDB_ENCRYPTION_KEYS
        fail(str(error))


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Around what writes a file: the system names no file when the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror or "", path) from error


@asynccontextmanager
async def opened_store(url: str | None) -> AsyncIterator[SnapshotStore | None]:
    """The store at `url`, closed at the end; None: none was named. A URL that cannot be one ends the command."""
    if not url:
        yield None
        return
    from eventdb.replay.stores import BadStoreURL, open_store

    try:
        store = open_store(url)
    except BadStoreURL as error:
        fail(str(error), code=2)
    try:
        yield store
    finally:
        await store.close()


async def existing(log: Log) -> LogInfo:
    """State of a log that is there. Raises NothingThere: a mistyped path must not look like an empty log."""
    from eventdb.replay.cut import NothingThere

    found = await log.info()
    if found.epoch == 0 and await log.is_empty():
        raise NothingThere(f"there is no log at {log.url}: nothing was ever written there")
    return found


def make_view() -> Machine:
    """An empty state; imported late, because it brings every command."""
    from eventdb.history.view import View

    return View()


def moment(text: str) -> int:
    """Unix ms; a time that cannot be meant ends the command as a usage error."""
    from eventdb.replay.times import BadMoment, format_ms, parse_moment

    now_ms = int(time.time() * 1000)
    try:
        at_ms = parse_moment(text, now_ms)
    except BadMoment as error:
        fail(f"--to-time {error}", code=2)
    if at_ms > now_ms:
        fail(f"--to-time {text!r} ({format_ms(at_ms)}) lies in the future: now is {format_ms(now_ms)}", code=2)
    return at_ms


def facts(pairs: list[tuple[str, object]]) -> None:
    """Print names and values in two columns, one fact a line."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        typer.echo(f"{name:{width}}  {value}")


def hint(text: str) -> None:
    """Say something that is not the result."""
    typer.echo(text, err=True)


class Display:
    """Progress of one or more phases: `with Display() as display: …(on_progress=display.report)`."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.phase = ""
        self.lined = self.began
        self.bars: Bars | None = None
        self.task: TaskID | None = None

    def __enter__(self) -> Display:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.bars is not None:
            self.bars.stop()

    def report(self, phase: str, progress: Progress) -> None:
        """For `on_progress` of a restore."""
        now = time.monotonic()
        if now - self.began < QUIET_S:
            return
        if sys.stderr.isatty():
            self._bar(phase, progress)
        elif phase != self.phase or now - self.lined >= LINE_S or progress.fraction() >= 1:
            self.lined = now
            hint(f"{VERBS[phase]}: {progress.describe()}")
        self.phase = phase

    def _bar(self, phase: str, progress: Progress) -> None:
        if self.bars is None:
            from rich.console import Console
            from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bars

            self.bars = Bars(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[detail]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self.bars.start()
        if self.task is None or phase != self.phase:
            if self.task is not None:
                self.bars.remove_task(self.task)
            self.task = self.bars.add_task(VERBS[phase], total=1.0, detail="")
        detail = progress.describe()
        self.bars.update(self.task, completed=progress.fraction(), detail=detail)
