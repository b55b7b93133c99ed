"""A store in memory that fails at a call, is killed at a call, or lies about what it has done."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from eventdb.replay.store import AlreadyThere, Chunks, NotThere, StoreError, check_name, each


class KilledError(BaseException):
    """The process ends here: nothing after it runs, nothing is tidied."""


class Shelf:
    """`objects` is what survives. `fail_at`: the number of the call (from 1) that fails, before or after its work."""

    def __init__(self, url: str = "shelf") -> None:
        self.url = url
        self.objects: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.fail_at = 0
        self.failure: BaseException = StoreError("the store is out of order")
        self.works_first = False  # the call has done its work when it fails: its answer was lost
        self.forgets: tuple[str, ...] = ()  # ends of names that it says it has taken, and keeps nothing of
        self.garbles: tuple[str, ...] = ()  # …and keeps other bytes of

    def _call(self, what: str) -> bool:
        self.calls.append(what)
        return len(self.calls) == self.fail_at

    async def put(self, name: str, chunks: Chunks) -> None:
        fails = self._call(f"put {name}")
        if fails and not self.works_first:
            raise self.failure
        if check_name(name) in self.objects:
            raise AlreadyThere(f"{name} exists in {self.url}")
        data = b"".join([chunk async for chunk in each(chunks)])
        if name.endswith(self.garbles or ("\0",)):
            data = data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]
        if not name.endswith(self.forgets or ("\0",)):
            self.objects[name] = data
        if fails:
            raise self.failure

    async def get(self, name: str) -> AsyncGenerator[bytes, None]:
        if self._call(f"get {name}"):
            raise self.failure
        if name not in self.objects:
            raise NotThere(f"there is no {name} in {self.url}")
        data = self.objects[name]
        size = max(100, len(data) // 20)
        for at in range(0, len(data), size):
            yield data[at : at + size]

    async def names(self) -> list[str]:
        if self._call("names"):
            raise self.failure
        return sorted(self.objects)

    async def delete(self, name: str) -> None:
        fails = self._call(f"delete {name}")
        if fails and not self.works_first:
            raise self.failure
        self.objects.pop(name, None)
        if fails:
            raise self.failure

    async def close(self) -> None:
        pass
