"""Is there one order of a key's operations that explains what every client was told?

Wing & Gong's search ("Testing and Verifying Concurrent Objects", 1993) with Lowe's memory of what was tried ("Testing
for linearizability", 2017): take any operation that no other one precedes, run it on the state, go on with the rest; a
set of taken operations with a state that failed once fails always. Linearizability is local (Herlihy & Wing), so each
key is checked alone; a MULTI block is one operation of several steps on each of its keys.

An operation whose outcome is unknown returns at infinity: it may take effect at any later time, or never.
Where the order of the writes is known (`Operation.place`), only orders that keep to it are tried: what is left to find
is where the reads go, and that is quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

INFINITY = float("inf")
TRIES_MAX = 2_000_000

Step = tuple[str, bytes]  # ("set", value), ("append", value), ("incr", b""), ("get", b""), ("del", b"")
State = bytes | None


class Untold:
    """In place of a result: it took effect, and what it was for this key was not said."""

    def __repr__(self) -> str:  # without an address, for it becomes part of the trace
        return "untold"


UNTOLD = Untold()


class TooHard(Exception):  # noqa: N818
    """The search was given up."""


@dataclass(slots=True)
class Operation:
    """What one client did to one key. `results`: per step what it was told; None: it was not told."""

    client: str
    key: bytes
    steps: tuple[Step, ...]
    called: float
    returned: float = INFINITY
    results: tuple[object, ...] | None = None
    number: int = field(default=0)
    place: int = 0  # among the writes to the key, where that is known; 0: not known

    def __str__(self) -> str:
        steps = "; ".join(f"{name} {value.decode()}".strip() for name, value in self.steps)
        end = "?" if self.returned == INFINITY else f"{self.returned:.4f}"
        return f"{self.client} {self.key.decode()} [{self.called:.4f}, {end}] {steps} -> {self.results}"


def step_of(state: State, step: Step) -> tuple[State, object]:
    """The state after one step, and what the client is told."""
    name, value = step
    if name == "get":
        return state, state
    if name == "set":
        return value, b"OK"
    if name == "del":
        return None, UNTOLD
    if name == "append":
        after = (state or b"") + value
        return after, len(after)
    assert name == "incr"
    number = int(state or b"0") + 1
    return b"%d" % number, number


def run(state: State, operation: Operation) -> tuple[State, bool]:
    """The state after all steps, and whether the client was told what it should have been."""
    told = operation.results
    for index, step in enumerate(operation.steps):
        state, result = step_of(state, step)
        if told is not None and told[index] is not UNTOLD and told[index] != result:
            return state, False
    return state, True


def is_linearizable(operations: Sequence[Operation], first: State = None) -> bool:
    """True when such an order exists. Raises TooHard."""
    todo = [o for o in operations if o.results is not None or any(name != "get" for name, _value in o.steps)]
    todo.sort(key=lambda o: (o.called, o.number))
    needed = 0
    for index, operation in enumerate(todo):
        if operation.returned < INFINITY:
            needed |= 1 << index
    count = len(todo)
    placed = sorted((operation.place, index) for index, operation in enumerate(todo) if operation.place)
    placed_mask = sum(1 << index for _place, index in placed)
    tried: set[tuple[int, State]] = set()
    # A stack of (taken, state): depth first, operations that returned before those whose outcome nobody knows.
    stack: list[tuple[int, State]] = [(0, first)]
    tries = 0
    while stack:
        taken, state = stack.pop()
        if taken & needed == needed:
            return True
        tries += 1
        if tries > TRIES_MAX:
            raise TooHard(f"{count} operations")
        done = (taken & placed_mask).bit_count()
        next_placed = placed[done][1] if done < len(placed) else -1
        # Nothing that was called after the first return among the rest may come now.
        deadline = INFINITY
        candidates: list[int] = []
        index = _first_zero(taken)
        while index < count:
            operation = todo[index]
            if operation.called > deadline:
                break
            if not taken >> index & 1:
                candidates.append(index)
                deadline = min(deadline, operation.returned)
            index += 1
        following: list[tuple[int, State]] = []
        lost: set[tuple[Step, ...]] = set()  # of those that do the same and never returned, the first called will do
        for index in candidates:
            operation = todo[index]
            if operation.called > deadline or (operation.place and index != next_placed):
                continue
            if operation.results is None and operation.returned == INFINITY:
                if operation.steps in lost:
                    continue
                lost.add(operation.steps)
            after, fits = run(state, operation)
            if fits:
                choice = (taken | 1 << index, after)
                reads = all(name == "get" for name, _value in operation.steps)
                if reads:  # it changes nothing, so if there is an order at all, there is one in which it comes now
                    following.clear()
                if choice not in tried:
                    tried.add(choice)
                    following.append((choice, (operation.returned, operation.number)))  # type: ignore[arg-type]
                if reads:
                    break
        following.sort(key=lambda found: found[1], reverse=True)  # type: ignore[operator, arg-type, return-value]
        stack.extend(found[0] for found in following)  # type: ignore[misc]
    return False


def _first_zero(taken: int) -> int:
    return (~taken & (taken + 1)).bit_length() - 1
