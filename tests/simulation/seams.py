"""Where the simulation takes the place of the operating system: names that the code under test looks up as it runs.

Only the pure build can be simulated; compiled modules have bound these names for good.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import random
import sys
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from unittest.mock import patch

import eventdb.server.server
from eventdb.backends import Log
from eventdb.backends.kafka.link import Link
from eventdb.cluster.lease import Holder
from eventdb.node.node import Node
from eventdb.replay import follower
from tests.simulation.broker import Partition, SimStandIn, ensure, wait
from tests.simulation.world import Clock, Process, World

POLL_S = 0.01  # between two looks at the hints: a fifth as often as in earnest, to get through more seeds


@contextlib.contextmanager
def installed(world: World, open_log: Callable[..., Log], partition: Partition | None = None) -> Iterator[None]:
    """Inside, eventdb lives in this world. `partition`: where writers' stand-ins send to."""
    clock = Clock(world)
    with contextlib.ExitStack() as stack:
        for name, module in sorted(sys.modules.items()):
            if not name.startswith("eventdb"):
                continue
            if getattr(module, "__file__", "").endswith(".so"):
                raise RuntimeError(f"{name} is compiled; the simulation needs the pure build (make pure)")
            if module.__dict__.get("time") is time:
                stack.enter_context(patch.object(module, "time", clock))
            if module.__dict__.get("perf_counter") is time.perf_counter:
                stack.enter_context(patch.object(module, "perf_counter", clock.perf_counter))
        stack.enter_context(patch("eventdb.node.node.open_log", open_log))
        stack.enter_context(patch("eventdb.backends.kafka.log.ensure", ensure))
        if partition is not None:
            stand_in, waiting = functools.partial(_stand_in, world, partition), functools.partial(_wait, world)
            stack.enter_context(patch("eventdb.backends.kafka.writer.StandIn", stand_in))
            stack.enter_context(patch("eventdb.backends.kafka.writer.wait", waiting))
        stack.enter_context(patch.object(eventdb.server.server, "Node", functools.partial(_node, world)))
        stack.enter_context(patch("eventdb.node.announcing.known", _known))
        stack.enter_context(patch.object(follower, "collector_paused", contextlib.nullcontext))
        stack.enter_context(patch.object(Holder, "here", staticmethod(lambda: _holder(world))))
        stack.enter_context(patch.object(Holder, "has_ended", lambda holder: _has_ended(world, holder)))
        stack.enter_context(patch("eventdb.backends.quorum.reader.POLL_S", POLL_S))
        for name, value in (("BYTES_MIN", 0), ("FRAME_BYTES_MAX", 1 << 20), ("GAIN_MIN", 0)):  # every sealed segment
            stack.enter_context(patch(f"eventdb.backends.quorum.squeezing.{name}", value))
        stack.enter_context(patch("os.urandom", random.Random(world.rng.random()).randbytes))
        state = random.getstate()
        stack.callback(random.setstate, state)
        random.seed(world.rng.random())
        logger = logging.getLogger("eventdb")
        stack.callback(logger.setLevel, logger.level)
        if world.notes is None:
            logger.setLevel(logging.CRITICAL + 1)
        else:
            handler = _Story(world)
            logger.addHandler(handler)
            logger.setLevel(logging.INFO)
            stack.callback(logger.removeHandler, handler)
        yield


_Node = Node


async def _known(host: str) -> None:
    """Names are addresses here; the real look-up runs in a thread of the real machine."""


def _node(world: World, *args: object, **options: object) -> Node:
    process = world.current
    assert process is not None
    options.setdefault("monotonic", process.monotonic)
    options.setdefault("rng", random.Random(world.rng.random()))
    return _Node(*args, **options)  # type: ignore[arg-type]


def _stand_in(world: World, partition: Partition, make_link: Callable[[], Link]) -> SimStandIn:
    assert world.current is not None
    return SimStandIn(world.current, partition, make_link)


def _wait(world: World, answers: Collection[Future[int]], seconds: float) -> None:
    assert world.current is not None
    wait(world.current, answers, seconds)


def _holder(world: World) -> Holder:
    process = world.current
    return Holder() if process is None or not process.machine else Holder(process.machine, 1, process.number, 1)


def _has_ended(world: World, holder: Holder) -> bool:
    here: Process | None = world.current
    if here is None or not holder.boot or holder.boot != here.machine:
        return False
    return world.processes[holder.pid - 1].dead


class _Story(logging.Handler):
    """What the nodes log, told beside what happens to them."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        process = self._world.current
        assert self._world.notes is not None
        who = process.name if process is not None else "-"
        self._world.notes.append(f"{self._world.now:9.4f}  {who}: {record.getMessage()}")
