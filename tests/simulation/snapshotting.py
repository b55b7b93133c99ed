"""Snapshotters in the world: two processes that are killed in the middle of their work, on a store that may be away.

What a trim takes away is kept aside first, so that at the end all of history can still be compared with what everybody
saw. Compression and threads between store and machine are left out: they have tests of their own.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import TYPE_CHECKING
from unittest.mock import patch

from eventdb.backends import LogError
from eventdb.history.view import View
from eventdb.replay.machine import Read, Write
from eventdb.replay.snapshotter import Snapshotter
from eventdb.replay.store import AlreadyThere, Chunks, NotThere, StoreUnavailable, each
from eventdb.replay.trimming import Window

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

COUNT = 2
PAUSE_S = 0.15  # between two rounds


class SimStore:
    """Objects in memory. `lies`: some of what it takes it damages, and says that all went well."""

    url = "sim:store"
    lies = False

    def __init__(self, rng: random.Random) -> None:
        self.objects: dict[str, bytes] = {}
        self.away = 0.0  # how often it does not answer
        self._rng = rng

    def _answer(self) -> None:
        if self._rng.random() < self.away:
            raise StoreUnavailable(f"{self.url}: nobody answers")

    async def put(self, name: str, chunks: Chunks) -> None:
        self._answer()
        data = b"".join([chunk async for chunk in each(chunks)])
        self._answer()
        if name in self.objects:
            raise AlreadyThere(name)
        self.objects[name] = data[:-1] if self.lies and self._rng.random() < 0.5 else data

    async def get(self, name: str) -> AsyncGenerator[bytes, None]:
        self._answer()
        if name not in self.objects:
            raise NotThere(name)
        yield self.objects[name]

    async def names(self) -> list[str]:
        self._answer()
        return sorted(self.objects)

    async def delete(self, name: str) -> None:
        self._answer()
        self.objects.pop(name, None)

    async def close(self) -> None:
        pass


class PlainPacking:
    """In the place of `streaming.Packing`."""

    def __init__(self, produce: Callable[[Write], None], make_sealer: Callable[[], object] = lambda: None) -> None:
        self.produce = produce
        self.key_id = ""  # nothing is sealed
        self.plain_bytes = self.stored_bytes = 0
        self.head = b""
        self.sha256 = ""

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        parts: list[bytes] = []
        self.produce(parts.append)
        data = b"".join(parts)
        self.plain_bytes = self.stored_bytes = len(data)
        self.head, self.sha256 = data[:16], hashlib.sha256(data).hexdigest()
        yield data


class PlainUnpacking:
    """In the place of `streaming.Unpacking`."""

    def __init__(
        self, chunks: AsyncGenerator[bytes, None], on_bytes: Callable[[int], None] | None = None, opener: object = None
    ) -> None:
        self.chunks = chunks
        self.plain_bytes = self.stored_bytes = 0
        self.sha256 = ""

    async def consume(self, take: Callable[[Read], None]) -> Exception | None:
        data = b"".join([chunk async for chunk in self.chunks])
        self.plain_bytes = self.stored_bytes = len(data)
        self.sha256 = hashlib.sha256(data).hexdigest()
        at = 0

        def read(size: int) -> bytes:
            nonlocal at
            found = data[at : at + size]
            at += len(found)
            return found

        try:
            take(read)
        except Exception as error:
            return error
        return None


@contextlib.contextmanager
def installed(store: SimStore, rng: random.Random) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for module in ("rebuilding", "reloading", "giving", "saving"):
            stack.enter_context(patch(f"eventdb.node.{module}.open_store", lambda _url: store))
        stack.enter_context(patch("eventdb.replay.making.Packing", PlainPacking))
        stack.enter_context(patch("eventdb.replay.snapshots.Unpacking", PlainUnpacking))
        stack.enter_context(patch("eventdb.replay.snapshots.collector_paused", contextlib.nullcontext))
        stack.enter_context(patch("secrets.token_hex", lambda size: rng.randbytes(size).hex()))
        yield


class Snapshotters:
    def __init__(self, cluster: Cluster, store: SimStore, rng: random.Random) -> None:
        self.cluster = cluster
        self.store = store
        self.rng = rng
        self.made = self.trimmed = 0
        self.stopping = False
        self.window = Window(ms=rng.choice((0, 0, 300, 1500)))
        self.slack = rng.choice((0, 0, 40))

    async def run(self) -> None:
        """Until `stopping`; one of them dies now and then."""
        world, rng = self.cluster.world, self.rng
        processes = [self.cluster.visitor(f"snapshotter{number}") for number in range(COUNT)]
        tasks = [process.spawn(self._work()) for process in processes]
        while not self.stopping:
            await world.sleep(rng.random())
            at = rng.randrange(COUNT)
            processes[at].kill()
            processes[at] = self.cluster.visitor(f"snapshotter{at}")
            tasks[at] = processes[at].spawn(self._work())
        for process in processes:
            process.kill()

    async def _work(self) -> None:
        world = self.cluster.world
        log = self.cluster.open_log()
        service = Snapshotter(
            log, self.store, View, every_ms=100, keep="1h:1s", window=self.window, slack=self.slack, idle_positions=60
        )
        while not self.stopping:
            try:
                made, done = await service.once()
                self.made += made is not None
                self.trimmed += done is not None and done.kept_from > done.first_position
            except (LogError, OSError) as error:
                world.note(f"no snapshot now: {error}")
            await world.sleep(self.rng.random() * PAUSE_S)
