"""What a log lies on, and what can be done to it: quorum files in three folders.

A fault strikes and returns its mending. Faults of the storage leave a majority, but for those that say otherwise; the
next one waits until every copy is whole again, since two losses one after the other are a loss of the majority.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from eventdb.backends import LogError, open_log
from tests.chaos.cluster import Cluster

Mend = Callable[[], None]
Strike = Callable[[random.Random], Mend]

TMPFS_BYTES: Final = 512 << 20


class Stage(Protocol):
    """The log of one campaign, and the faults of what it lies on."""

    url: str

    def faults(self, cluster: Cluster) -> dict[str, Strike]:
        """By name; each leaves a majority, or says so in its name."""
        ...

    def missing(self) -> str:
        """What a copy of the log lacks now, in words; empty: nothing."""
        ...

    def close(self) -> None: ...


class Files:
    """Three zones as folders. Where root may mount and freeze, zone c is a file system of its own that can be full."""

    def __init__(self, folder: Path) -> None:
        self.zones = [folder / f"zone-{letter}" for letter in "abc"]
        self._kept = folder / "kept"
        self._kept.mkdir()
        self._mounted: Path | None = folder / "small"
        self._mounted.mkdir()
        if _run("mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "tmpfs", str(self._mounted)):
            self.zones[2] = self._mounted / "zone-c"
        else:
            self._mounted = None
        self.url = "quorum:" + ",".join(map(str, self.zones))
        self._count = 0

    def faults(self, cluster: Cluster) -> dict[str, Strike]:
        found: dict[str, Strike] = {
            "a zone is moved away": self._move_one,
            "two zones are moved away: no majority": self._move_two,
            "a zone is deleted": self._delete,
        }
        if self._mounted is not None:
            found["a zone is full"] = self._fill
        if self._can_freeze():
            found["a zone is read-only"] = self._freeze
        return found

    # -- faults

    def _move_one(self, rng: random.Random) -> Mend:
        return self._move(rng.choice(self.zones))

    def _move_two(self, rng: random.Random) -> Mend:
        mends = [self._move(zone) for zone in rng.sample(self.zones, 2)]

        def put_back() -> None:
            for mend in mends:
                mend()

        return put_back

    def _move(self, zone: Path) -> Mend:
        """Rename it within its file system, and put it back as a person does: what was made anew is moved out first."""
        self._count += 1
        away = zone.with_name(f"away-{self._count}")
        zone.rename(away)

        def put_back() -> None:
            deadline = time.monotonic() + 10
            while away.exists():
                with contextlib.suppress(OSError):  # made anew in between
                    if zone.exists():
                        made = zone.rename(zone.with_name(f"made-{self._count}"))
                        shutil.rmtree(made, ignore_errors=True)
                    away.rename(zone)
                assert time.monotonic() < deadline, f"{zone} cannot be put back"

        return put_back

    def _delete(self, rng: random.Random) -> Mend:
        """Nobody puts it back; the log makes it anew."""
        zone = rng.choice(self.zones)
        gone = zone.rename(zone.with_name("gone"))
        shutil.rmtree(gone, ignore_errors=True)
        return lambda: None

    def _fill(self, rng: random.Random) -> Mend:
        assert self._mounted is not None
        filler = self._mounted / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 20))
        return filler.unlink

    def _can_freeze(self) -> bool:
        probe = self._kept / "probe"
        probe.touch()
        able = _run("chattr", "+i", str(probe))
        return able and _run("chattr", "-i", str(probe))

    def _freeze(self, rng: random.Random) -> Mend:
        """As a file system that was remounted read-only: descriptors that are open do not write either."""
        zone = rng.choice(self.zones if self._mounted is None else self.zones[:2])
        _run("chattr", "-R", "+i", str(zone))
        return lambda: _thaw(zone)

    # -- state

    def missing(self) -> str:
        async def look() -> str:
            log = open_log(self.url)
            try:
                info = await log.info()
            except LogError as error:
                return str(error)
            finally:
                await log.close()
            states = [zone.state for zone in info.zones]
            # While somebody writes, copies differ by what is on its way.
            behind = [info.end_position - zone.end_position for zone in info.zones]
            return "" if set(states) == {"up"} and max(behind) < 1000 else f"{states}, behind by {behind}"

        return asyncio.run(look())

    def close(self) -> None:
        for zone in self.zones:
            if zone.exists():
                _thaw(zone)
        if self._mounted is not None:
            _run("umount", "-l", str(self._mounted))


def _thaw(zone: Path) -> None:
    _run("chattr", "-R", "-i", str(zone))


def _run(*command: str) -> bool:
    """Whether the command could be run, as root, and succeeded."""
    if os.geteuid() != 0 or shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
