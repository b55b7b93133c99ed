"""The virtual clock, the event loop on it, and the processes that live in that loop.

Time passes only when nothing can run now: the loop then jumps to the next timer. Every callback, task and thread
belongs to the process in whose context it was made; a dead process never runs again, a paused one runs later what came
due.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import random
import types
import zlib
from asyncio import events
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet

STEP_S = 1e-6  # what running one callback costs
STEPS_MAX = 3_000_000  # a usual seed takes 50,000
LOOKS_MAX = 100_000  # at the clock, while no time passes
BUGS = (AssertionError, TypeError, AttributeError, LookupError, ArithmeticError, NameError)
WALL_S = 1_700_000_000.0  # what the wall clocks show when a world begins


class Stuck(Exception):  # noqa: N818
    """Nothing will ever happen again, or far too much did."""


class Process:
    """One run of a program. Its monotonic clock starts at `offset` and runs `rate` times as fast as the world's."""

    def __init__(self, world: World, name: str, *, rate: float = 1.0, offset: float = 0.0, wall_s: float = 0.0) -> None:
        self.world = world
        self.name = name
        self.rate = rate
        self.offset = offset
        self.wall_s = wall_s
        self.machine = ""  # processes of one machine can tell whether another one has ended
        self.dead = False
        self.paused = False
        self.busy = False  # its loop runs one command; its threads go on
        self.held_up: list[events.Handle | Event] = []  # came due while it was paused or busy
        self.loops: list[Process] = []  # event loops of its own threads; see `loop_beside`
        self.tasks: list[asyncio.Task[Any]] = []  # kept, so that their end does not depend on the garbage collector
        self.threads: list[greenlet] = []
        self.on_death: list[Callable[[], None]] = []
        self.number = len(world.processes) + 1
        self.context = contextvars.Context()
        self.context.run(PROCESS.set, self)
        self.executor: Executor | None = None  # of `asyncio.to_thread`
        world.processes.append(self)

    def monotonic(self) -> float:
        world = self.world
        if world.looked_at != world.steps:
            world.looked_at, world.looks = world.steps, 0
        world.looks += 1
        if world.looks > LOOKS_MAX:
            raise Stuck(f"{self.name} looks at the clock for ever")
        return self.offset + world.now * self.rate

    def wall(self) -> float:
        return WALL_S + self.wall_s + self.world.now * self.rate

    def when(self, local: float) -> float:
        """The world's time at which this clock shows `local`."""
        return (local - self.offset) / self.rate

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine in this process."""
        return self.world.create_task(coroutine, context=self.context.copy())

    def loop_beside(self) -> Process:
        """A second event loop, in a thread of this process: it goes on while the first one is busy."""
        beside = Process(self.world, self.name, rate=self.rate, offset=self.offset, wall_s=self.wall_s)
        beside.machine = self.machine
        self.loops.append(beside)
        self.on_death.append(beside.kill)
        return beside

    def pause(self) -> None:
        self.paused = True
        for beside in self.loops:
            beside.pause()

    def resume(self) -> None:
        if not self.paused:
            return
        self.paused = False
        for beside in self.loops:
            beside.resume()
        self._go_on()

    def work(self, seconds: float) -> None:
        """Its loop is busy for so long, by its own clock."""
        if not self.busy:
            self.busy = True
            self.world.after(seconds / self.rate, self.worked)

    def worked(self) -> None:
        """It is busy no more."""
        self.busy = False
        if not self.paused:
            self._go_on()

    def _go_on(self) -> None:
        held_up, self.held_up = self.held_up, []
        if self.world.rng.random() < 0.5:  # what the network brought is seen before the timers are
            held_up.sort(key=lambda due: isinstance(due, asyncio.TimerHandle))
        self.world.ready_again(held_up)

    def kill(self) -> None:
        """End it as SIGKILL does."""
        if self.dead:
            return
        self.dead = True
        for due in self.held_up:
            _drop(due)
        self.held_up.clear()
        for action in self.on_death:
            action()


class Event:
    """Something that comes to pass in a process, or (None) in the world. Lighter than asyncio's handles."""

    __slots__ = ("args", "callback", "process", "thread")

    def __init__(
        self, process: Process | None, callback: Callable[..., Any], args: tuple[Any, ...], thread: bool
    ) -> None:
        self.process = process
        self.callback = callback
        self.args = args
        self.thread = thread  # it goes to one of the process's threads, not to its loop


PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class World(asyncio.BaseEventLoop):
    """The loop of all processes. `now` is the true time in seconds; `time()` is the running process's clock."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.rng = random.Random(seed)
        self.now = 0.0
        self.steps = 0
        self.looks = 0  # at the clock, since step `looked_at`
        self.looked_at = 0
        self.trace = 0
        self.current: Process | None = None
        self.processes: list[Process] = []
        self.failures: list[BaseException] = []
        self.ended = False
        self.notes: list[str] | None = None  # a story for people, when asked for
        self._heap: list[tuple[float, int, asyncio.TimerHandle | Event]] = []
        self._number = 0
        self.hub = getcurrent()
        self.set_task_factory(self._make_task)
        self.set_exception_handler(self._exception)

    # -- what asyncio calls

    def time(self) -> float:
        process = self.current
        return self.now if process is None else process.monotonic()

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        process = self.current
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._push(when if process is None else process.when(when), timer)
        return timer

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> events.Handle:
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, function: Callable[..., Any], *args: Any
    ) -> Any:
        process = self.current
        assert process is not None and process.executor is not None
        submitted: Future[Any] = (executor or process.executor).submit(function, *args)
        return asyncio.wrap_future(submitted, loop=self)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass  # skipped when it comes up

    def _make_task(self, loop: Any, coroutine: Any, context: contextvars.Context | None = None) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=self, context=context)
        process = PROCESS.get() if context is None else context.get(PROCESS)
        if process is not None:
            task.add_done_callback(self._task_ended)
            process.tasks.append(task)
            if len(process.tasks) > 200:
                process.tasks = [other for other in process.tasks if not other.done()]
        return task

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        """An error that nobody raises on purpose is a bug, whoever else may look at it."""
        if not self.ended and not task.cancelled() and isinstance(task.exception(), BUGS):
            self.failures.append(task.exception())  # type: ignore[arg-type]

    def _exception(self, loop: Any, found: dict[str, Any]) -> None:
        error = found.get("exception")
        if self.ended or isinstance(error, GreenletExit) or (self.current is not None and self.current.dead):
            return
        self.failures.append(error if error is not None else RuntimeError(found.get("message", "?")))

    def _run_once(self) -> None:
        ready = self._ready  # type: ignore[attr-defined]
        if ready:
            due: events.Handle | Event = ready.popleft()
        else:
            if not self._heap:
                raise Stuck("nothing is due, for ever")
            when, _number, due = heapq.heappop(self._heap)
            if when > self.now:
                self.now = when
        if type(due) is Event:
            process = due.process
        else:
            if due._cancelled:  # type: ignore[union-attr]
                return
            process = due._context.get(PROCESS)  # type: ignore[union-attr]
        if process is not None:
            if process.dead:
                _drop(due)
                return
            if process.paused or (process.busy and not (type(due) is Event and due.thread)):
                process.held_up.append(due)
                return
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise Stuck(f"{STEPS_MAX} steps")
        self.now += STEP_S
        self.trace = hash((self.trace, self.now, process.number if process is not None else 0))
        self.current = process
        if type(due) is not Event:
            due._run()  # type: ignore[union-attr]
        elif process is None or due.thread:  # a thread has a context of its own
            due.callback(*due.args)
        else:
            process.context.run(due.callback, *due.args)
        self.current = None
        if self.failures:
            raise self.failures[0]

    # -- what the simulation calls

    def ready_again(self, held_up: list[events.Handle | Event]) -> None:
        self._ready.extendleft(reversed(held_up))  # type: ignore[attr-defined]

    def at(self, when: float, callback: Callable[..., Any], *args: Any, process: Process | None = None) -> None:
        """Call at the world's time `when`, in a process or (None) in none."""
        self._push(when, Event(process, callback, args, False))

    def after(
        self,
        seconds: float,
        callback: Callable[..., Any],
        *args: Any,
        process: Process | None = None,
        thread: bool = False,
    ) -> None:
        self._push(self.now + seconds, Event(process, callback, args, thread))

    async def sleep(self, seconds: float) -> None:
        """Of the world's time, for the nemesis."""
        future = self.create_future()
        self.after(seconds, _set, future)
        await future

    def feed(self, *facts: object) -> None:
        """Make facts part of the trace, by which two runs are compared."""
        self.trace = hash(
            (self.trace, *(fact if isinstance(fact, (int, float)) else _number_of(fact) for fact in facts))
        )

    def note(self, text: str) -> None:
        self.feed(text)
        if self.notes is not None:
            self.notes.append(f"{self.now:9.4f}  {text}")

    def end(self) -> None:
        """Let go of everything, without running any more of it."""
        self.ended = True
        for process in self.processes:
            process.dead = True
        self._ready.clear()  # type: ignore[attr-defined]
        self._heap.clear()
        for process in self.processes:
            for thread in list(process.threads):  # a stack that is kept keeps all it knows
                thread.throw()
            for task in process.tasks:
                task._log_destroy_pending = False  # type: ignore[attr-defined]

    def _push(self, when: float, due: asyncio.TimerHandle | Event) -> None:
        self._number += 1
        heapq.heappush(self._heap, (when, self._number, due))


def _drop(due: events.Handle | Event) -> None:
    """It comes to pass in a process that is dead: an error that it was to be told is nobody's to look at."""
    if isinstance(due, events.Handle):
        for future in due._args or ():  # type: ignore[attr-defined]
            if isinstance(future, asyncio.Future):
                future._log_traceback = False  # type: ignore[attr-defined]


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _number_of(fact: object) -> int:
    return zlib.crc32(fact if isinstance(fact, bytes) else str(fact).encode())


class Clock(types.SimpleNamespace):
    """Stands in for the module `time` where the code under test takes it by name."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def monotonic(self) -> float:
        return self._world.time()

    perf_counter = monotonic

    def time(self) -> float:
        process = self._world.current
        return WALL_S + self._world.now if process is None else process.wall()
