"""Real processes on the same quorum files: killed, stopped across a claim, read from outside."""

import asyncio
import os
import random
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventdb.backends import RecordKind, open_log
from tests.kit.faults import data_of, findings, read_all, until

# Appends numbered bodies as fast as it may, prints each number when it is acknowledged, "fenced" when it is.
PROGRAM = textwrap.dedent(
    """
    import asyncio, sys
    from eventdb.backends import Fenced, open_log

    async def main():
        log = open_log(sys.argv[1])
        writer = await log.claim("child")
        print("claimed", writer.next_offset, flush=True)
        number = writer.next_offset
        flying = []
        while True:
            body = b"%d " % number + bytes(number * 37 % 3000)
            flying.append((number, writer.append(body, first_offset=number, count=1, time_ms=number)))
            number += 1
            if len(flying) >= int(sys.argv[2]):
                sent, future = flying.pop(0)
                try:
                    await future
                except Fenced:
                    print("fenced", flush=True)
                    return
                print(sent, flush=True)

    asyncio.run(main())
    """
)
ROOT = Path(__file__).resolve().parents[2]


class Child:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[str] = []

    @property
    def acknowledged(self) -> list[int]:
        return [int(word) for word in self.said if word.isdigit()]

    async def listen(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.said.append(line.decode().strip())

    async def wait_for(self, count: int) -> None:
        await until(lambda: len(self.said) >= count)

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


@pytest.fixture
async def children() -> AsyncIterator[list[Child]]:
    started: list[Child] = []
    yield started
    for child in started:
        await child.end()


async def start(children: list[Child], url: str, flying: int = 8) -> tuple[Child, asyncio.Task[None]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, url, str(flying), stdout=asyncio.subprocess.PIPE, env=environment
    )
    child = Child(process)
    children.append(child)
    return child, asyncio.create_task(child.listen())


def numbers(bodies: list[bytes]) -> list[int]:
    return [int(body.split(b" ", 1)[0]) for body in bodies]


@pytest.mark.parametrize("zones", [1, 3])
async def test_nothing_acknowledged_is_lost_to_kill_9(tmp_path: Path, children: list[Child], zones: int) -> None:
    url = f"quorum:{tmp_path}/log?zones={zones}"
    rng = random.Random(zones)
    print(f"seed {zones}")
    last = 0
    for _round in range(6):
        child, listening = await start(children, url, rng.choice([1, 8, 50]))
        await child.wait_for(1 + rng.randint(1, 120))
        child.process.kill()
        await listening
        last = max(child.acknowledged, default=last)
        seen = numbers(data_of(await read_all(open_log(url, foresee=True))))  # type: ignore[arg-type]
        assert seen == list(range(1, len(seen) + 1))
        assert len(seen) >= last, "read before any claim"
    log = open_log(url)
    writer = await log.claim("last")
    assert writer.next_offset > last
    assert numbers(data_of(await read_all(log))) == list(range(1, writer.next_offset))  # type: ignore[arg-type]
    await log.close()
    assert await findings(open_log(url)) == []  # type: ignore[arg-type]


async def test_a_process_stopped_across_a_claim_never_acknowledges_again(tmp_path: Path, children: list[Child]) -> None:
    url = f"quorum:{tmp_path}/log"
    child, listening = await start(children, url)
    await child.wait_for(50)
    child.process.send_signal(signal.SIGSTOP)
    log = open_log(url)
    writer = await log.claim("second")
    adopted = writer.next_offset - 1
    await asyncio.wait_for(writer.append(b"-1 ", first_offset=adopted + 1, count=1, time_ms=1 << 40), 10)
    child.process.send_signal(signal.SIGCONT)
    await asyncio.wait_for(listening, 15)
    assert child.said[-1] == "fenced"
    assert max(child.acknowledged) <= adopted
    await asyncio.wait_for(writer.append(b"-2 ", first_offset=adopted + 2, count=1, time_ms=1 << 40), 10)
    assert numbers(data_of(await read_all(log))) == [*range(1, adopted + 1), -1, -2]  # type: ignore[arg-type]
    await log.close()
    assert await findings(open_log(url)) == []  # type: ignore[arg-type]


async def test_many_processes_claiming_at_once_lose_and_double_nothing(tmp_path: Path, children: list[Child]) -> None:
    url = f"quorum:{tmp_path}/log"
    started = [await start(children, url) for _ in range(4)]
    for child, _listening in started:
        await until(lambda: child.said != [] or child.process.returncode is not None)  # noqa: B023
    log = open_log(url)
    writer = await log.claim("last")
    for child, listening in started:
        await asyncio.wait_for(listening, 15)
        assert child.said == [] or child.said[-1] == "fenced"
    seen = numbers(data_of(await read_all(log)))  # type: ignore[arg-type]
    assert seen == list(range(1, writer.next_offset))
    assert max((n for child, _ in started for n in child.acknowledged), default=0) <= len(seen)
    await log.close()


async def test_a_reader_in_another_process_follows_a_live_writer(tmp_path: Path, children: list[Child]) -> None:
    url = f"quorum:{tmp_path}/log"
    child, listening = await start(children, url)
    await child.wait_for(1)
    seen: list[int] = []
    stretches = open_log(url).read(0, follow=True)
    async with asyncio.timeout(20):
        while len(seen) < 300:
            stretch = await anext(stretches)
            seen += numbers([record.body for record in stretch.records if record.kind is RecordKind.DATA])
    assert seen == list(range(1, len(seen) + 1))
    child.process.kill()
    await listening
    last = child.acknowledged[-1]
    log = open_log(url)
    await log.claim("next")  # its last word may be missing, which is the next writer's to say
    async with asyncio.timeout(20):
        while seen[-1] < last:
            stretch = await anext(stretches)
            seen += numbers([record.body for record in stretch.records if record.kind is RecordKind.DATA])
    await log.close()
    assert seen == list(range(1, len(seen) + 1))
