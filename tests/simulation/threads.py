"""Threads of a simulated process: greenlets, of which one runs at a time and only a wait lets another one run.

What two threads may do in either order, they do in an order drawn from the seed: a thread that is woken starts a little
later, by chance.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from types import TracebackType
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet

from eventdb.backends.quorum.runtime import Runtime
from tests.simulation.world import Process, World

WAKE_S_MAX = 60e-6  # from being woken to running


class Waiter:
    """One thread's wait. The first `fire` ends it; later ones do nothing."""

    __slots__ = ("_process", "_thread", "_world", "fired")

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world
        self._thread = getcurrent()
        assert self._thread is not self._world.hub, "the loop itself may not wait"
        self.fired = False

    def fire(self, value: object = True) -> None:
        if not self.fired:
            self.fired = True
            delay = self._world.rng.random() * WAKE_S_MAX
            self._world.after(delay, self._thread.switch, value, process=self._process, thread=True)

    def wait(self, seconds: float | None = None) -> Any:
        """What `fire` was given; False when the time, on this process's clock, was over first."""
        if self._process.dead:
            raise GreenletExit
        if seconds is not None:
            self._world.after(
                max(seconds, 0.0) / self._process.rate, self.fire, False, process=self._process, thread=True
            )
        return self._world.hub.switch()


class SimThread:
    def __init__(self, process: Process, run: Callable[[], object], name: str) -> None:
        self.name = name
        self._process = process
        self._run = run
        self._greenlet: greenlet | None = None
        self._ended = False
        self._joining: list[Waiter] = []

    def start(self) -> None:
        process = self._process
        thread = self._greenlet = greenlet(self._main, process.world.hub)
        thread.gr_context = process.context.copy()
        process.threads.append(thread)
        process.world.after(process.world.rng.random() * WAKE_S_MAX, thread.switch, process=process, thread=True)

    def _main(self) -> None:
        try:
            self._run()
        except GreenletExit:
            return  # it is being taken apart
        except BaseException as error:
            if self._process.dead:
                return
            self._process.world.failures.append(error)
        self._ended = True
        self._process.threads.remove(getcurrent())
        for waiter in self._joining:
            waiter.fire()

    def join(self, timeout: float | None = None) -> None:
        if not self._ended:
            waiter = Waiter(self._process)
            self._joining.append(waiter)
            waiter.wait(timeout)

    def is_alive(self) -> bool:
        return not self._ended


class SimWake:
    """As `queue.SimpleQueue`."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._items: deque[Any] = deque()
        self._waiting: deque[Waiter] = deque()

    def put(self, item: Any) -> None:
        self._items.append(item)
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.fired:
                waiter.fire()
                return

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        while not self._items:
            waiter = Waiter(self._process)
            self._waiting.append(waiter)
            if not waiter.wait(timeout) and not self._items:
                raise queue.Empty
        return self._items.popleft()


class SimFlag:
    """As `threading.Event`."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._set = False
        self._waiting: list[Waiter] = []

    def set(self) -> None:
        self._set = True
        for waiter in self._waiting:
            waiter.fire()
        self._waiting.clear()

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        if not self._set:
            waiter = Waiter(self._process)
            self._waiting.append(waiter)
            waiter.wait(timeout)
        return self._set


class SimChanged:
    """As `threading.Condition`. Its lock needs nothing: no thread is ever interrupted while it holds it."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._waiting: list[Waiter] = []

    def __enter__(self) -> bool:
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        return None

    def wait(self, timeout: float | None = None) -> bool:
        waiter = Waiter(self._process)
        self._waiting.append(waiter)
        return bool(waiter.wait(timeout))

    def notify_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.fire()


class SimExecutor(Executor):
    """Runs what is submitted: in order in one thread (`workers` 1), or each in a thread of its own (0)."""

    def __init__(self, process: Process, name: str, workers: int) -> None:
        self._process = process
        self._name = name
        self._workers = workers
        self._jobs: deque[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = deque()
        self._busy = False

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        assert not kwargs
        future: Future[Any] = Future()
        if self._process.dead:
            return future
        self._jobs.append((future, function, args))
        if not self._workers or not self._busy:
            self._busy = True
            SimThread(self._process, self._work, self._name).start()
        return future

    def _work(self) -> None:
        while self._jobs:
            future, function, args = self._jobs.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = function(*args)
            except GreenletExit:
                raise
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)
            if not self._workers:
                return
        self._busy = False

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        assert not wait


class SimRuntime(Runtime):
    """The runtime of one simulated process."""

    def __init__(self, process: Process) -> None:  # all of it is replaced
        self.process = process
        self.monotonic = process.monotonic
        self.sleep = self._sleep
        process.executor = SimExecutor(process, "pool", 0)

    def _sleep(self, seconds: float) -> None:
        Waiter(self.process).wait(seconds)

    def thread(self, run: Callable[[], None], name: str) -> SimThread:
        return SimThread(self.process, run, name)

    def wake(self) -> SimWake:
        return SimWake(self.process)

    def flag(self) -> SimFlag:
        return SimFlag(self.process)

    def changed(self) -> SimChanged:
        return SimChanged(self.process)

    def executor(self, name: str) -> SimExecutor:
        return SimExecutor(self.process, name, 1)


def is_thread(world: World) -> bool:
    """True in a simulated thread, False in the loop."""
    return getcurrent() is not world.hub
