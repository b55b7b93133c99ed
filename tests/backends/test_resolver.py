"""A name that its resolver is slow to decline holds up nobody who looks for another one."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from eventdb.backends.kafka.address import parse
from eventdb.backends.kafka.link import Link, NoAnswer
from eventdb.backends.resolver import known

DEAD = "broker-that-died"


class Resolver:
    """`socket.getaddrinfo`, which declines the name DEAD, but not before `decline` is set."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.decline = threading.Event()
        self.lookups: list[str] = []  # of DEAD, by the name of the thread
        self._real = socket.getaddrinfo

    def getaddrinfo(self, host: Any, *args: Any, **kwargs: Any) -> Any:
        if host != DEAD:
            return self._real(host, *args, **kwargs)
        self.lookups.append(threading.current_thread().name)
        self.begun.set()
        assert self.decline.wait(20)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver.getaddrinfo)
    yield resolver
    resolver.decline.set()


async def test_a_slow_name_is_looked_up_once_and_holds_up_no_other(resolver: Resolver) -> None:
    asking = [asyncio.create_task(known(DEAD)) for _ in range(50)]
    assert await asyncio.to_thread(resolver.begun.wait, 10)
    async with asyncio.timeout(10):
        await known("localhost")
    for task in asking[1:]:  # who gives up does not end it for the one that does not
        task.cancel()
    assert len(resolver.lookups) == 1
    resolver.decline.set()
    with pytest.raises(OSError, match="not known"):
        await asking[0]
    with pytest.raises(OSError, match="not known"):  # asked anew
        await known(DEAD)
    assert len(resolver.lookups) == 2


async def test_a_broker_is_connected_to_only_when_its_name_is_known(resolver: Resolver) -> None:
    """The loop's own threads are few, and a lookup there would keep one of them."""
    link = Link(parse(f"kafka://{DEAD}/topic"))
    for _ in range(8):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await link.cluster()
    assert await asyncio.to_thread(resolver.begun.wait, 10)
    assert resolver.lookups == [f"lookup {DEAD}"]
    resolver.decline.set()
    with pytest.raises(NoAnswer, match=f"{DEAD}:9092"):
        await link.cluster()
    await link.close()


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example", "nul\0"])
async def test_what_is_no_name_is_an_oserror(host: str) -> None:
    with pytest.raises(OSError):
        await known(host)
