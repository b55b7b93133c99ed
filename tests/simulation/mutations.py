"""The protocol broken on purpose, one rule at a time. Only tests use this: the simulation has to notice each of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

MUTATIONS: dict[str, Callable[[contextlib.ExitStack], None]] = {}


@contextlib.contextmanager
def applied(name: str | None) -> Iterator[None]:
    """Inside, the rule of that name is broken."""
    with contextlib.ExitStack() as stack:
        if name is not None:
            MUTATIONS[name](stack)
        yield
