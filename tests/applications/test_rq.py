"""RQ, unchanged, with worker processes and a server that are killed: no job is lost, none runs twice without a kill.

RQ's own contract is "at least once" for a job that may be retried. A worker moves a job's id to an intermediate list
(BLMOVE), notes it as started, runs it, and notes the end in one MULTI block. Whoever dies between the begin and that
block leaves a job of which nobody knows whether it ran; RQ's maintenance finds it (StartedJobRegistry, after the
heartbeat has expired; the intermediate list, after a minute) and runs it again. So a job runs once, and at most
once more for each kill of the server or of a worker that had it.

The jobs that are killed keep no result (`result_ttl=0`) and may be retried.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry as Reconnect
from rq import Queue, Retry, SimpleWorker
from rq.job import Job
from rq.registry import FailedJobRegistry, StartedJobRegistry
from rq.results import Result

from tests.conftest import ROOT, Server, StartServer, wait_until
from tests.kit.rq_jobs import work

JOBS = int(os.environ.get("EVENTDB_RQ_JOBS", "90"))
KILLS = 8
WORKERS = 3
SEED = int(os.environ.get("EVENTDB_SEED", str(random.randrange(2**32))))
LONG_AGO = 0.0
FAR_AHEAD = 2.0**40


class Workers:
    """`rq worker` processes; a killed one is replaced. Two kinds: one that forks for a job, one that does not."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.running: list[subprocess.Popen[bytes]] = []
        self.started = 0
        self.killed: dict[int, float] = {}  # process id, Unix seconds

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        kind = "rq.Worker" if self.started % 2 else "rq.SimpleWorker"
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "rq.cli",
            "worker",
            "-u",
            f"redis://127.0.0.1:{self.server.port}",
        ]
        command += ["--worker-class", kind, "--worker-ttl", "20", "--name", f"worker-{self.started}", *options, "jobs"]
        with (self.folder / f"worker-{self.started}.txt").open("wb") as sink:
            process = subprocess.Popen(
                command, cwd=ROOT, stdout=sink, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": str(ROOT)}
            )
        self.started += 1
        return process

    def fill(self) -> None:
        """Have WORKERS of them; one that gave up while the server was away is replaced too."""
        self.running = [process for process in self.running if process.poll() is None]
        while len(self.running) < WORKERS:
            self.running.append(self.start())

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        self.killed[process.pid] = time.time()
        process.kill()
        process.wait()

    def finish(self) -> None:
        """SIGTERM: each ends what it runs."""
        for process in self.running:
            process.send_signal(signal.SIGTERM)
        for process in self.running:
            process.wait(30)


class Producer(threading.Thread):
    """Enqueues jobs while the server comes and goes."""

    def __init__(self, server: Server, notes: Path, rng: random.Random) -> None:
        super().__init__(daemon=True)
        self.client = redis.Redis(port=server.port, retry=Reconnect(NoBackoff(), 0), socket_timeout=20)
        self.queue = Queue("jobs", connection=self.client)
        self.notes = notes
        self.rng = rng
        self.enqueued: dict[int, float] = {}  # when it was first tried
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            for job in range(JOBS):
                self.enqueued[job] = time.time()
                seconds = self.rng.uniform(0.0, 0.05)
                while not self.enqueue(job, seconds):
                    pass
        except BaseException as failure:
            self.failure = failure
        finally:
            self.client.close()

    def enqueue(self, job: int, seconds: float) -> bool:
        """True once it is known to be enqueued, once."""
        try:
            self.queue.enqueue(
                work, str(self.notes), job, seconds, job_id=f"job-{job}", result_ttl=0, retry=Retry(max=1000)
            )
            return True
        except redis.ConnectionError:
            return self.was_enqueued(job)

    def was_enqueued(self, job: int) -> bool:
        """Enqueuing is one MULTI block, so either all of it happened or nothing; a job that is gone has begun."""
        while True:
            try:
                return Job.exists(f"job-{job}", connection=self.client) or job in begun(self.notes)
            except redis.ConnectionError:
                threading.Event().wait(0.05)


def lines(notes: Path) -> list[list[str]]:
    return [line.split() for line in notes.read_text().splitlines()] if notes.exists() else []


def begun(notes: Path) -> set[int]:
    return {int(line[1]) for line in lines(notes) if line[0] == "begin"}


def horses(notes: Path) -> Iterator[int]:
    """Processes that run or ran a job and still live: those a killed worker left behind end their job by themselves."""
    for pid in {int(line[3]) for line in lines(notes)}:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                yield pid
        except psutil.NoSuchProcess:
            pass


def recover(client: redis.Redis) -> int:
    """What RQ's maintenance does in its own time, at once: no worker runs. Returns how many jobs wait then."""
    queue = Queue("jobs", connection=client)
    StartedJobRegistry(queue=queue).cleanup(timestamp=FAR_AHEAD)
    intermediate: Any = queue.intermediate_queue
    for job in intermediate.get_job_ids():
        client.set(intermediate.get_first_seen_key(job), LONG_AGO)  # instead of waiting a minute
    intermediate.cleanup(SimpleWorker([queue], connection=client), queue)
    return queue.count


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_no_job_is_lost_when_workers_and_the_server_are_killed(eventdb_server: StartServer, tmp_path: Path) -> None:
    print(f"EVENTDB_SEED={SEED}")
    rng = random.Random(SEED)
    server = eventdb_server()
    notes = tmp_path / "notes.txt"
    workers = Workers(server, tmp_path)
    producer = Producer(server, notes, random.Random(SEED + 1))
    server_kills: list[float] = []
    try:
        workers.fill()
        producer.start()
        for step in range(1, KILLS + 1):
            goal = JOBS * step // (KILLS + 1)
            wait_until(lambda goal=goal: workers.fill() or len(begun(notes)) >= goal, 90, f"{goal} jobs have begun")  # type: ignore[func-returns-value, misc]
            if step % 2:
                server_kills.append(time.time())
                server.kill()
                server.restart()
            else:
                workers.kill(rng.choice(workers.running))
        producer.join(60)
        assert not producer.is_alive()
        if producer.failure is not None:
            raise producer.failure
        with redis.Redis(port=server.port) as client:
            queue = Queue("jobs", connection=client)
            wait_until(lambda: workers.fill() or queue.count == 0, 90, "the queue is empty")  # type: ignore[func-returns-value]
            workers.finish()
            wait_until(lambda: not list(horses(notes)), 60, "the last job has ended")
            recovered = 0
            while (waiting := recover(client)) > 0:
                recovered += waiting
                assert recovered < 10 * JOBS
                assert workers.start("--burst").wait(90) == 0
            check(notes, producer.enqueued, server_kills, workers.killed)
            assert FailedJobRegistry(queue=queue).count == 0
            assert StartedJobRegistry(queue=queue).count == 0
            assert client.keys("rq:job:*") == []
            print(f"{recovered} jobs were found again by RQ's maintenance")
    finally:
        for process in workers.running:
            process.kill()
            process.wait()


def check(notes: Path, enqueued: dict[int, float], server_kills: list[float], killed: dict[int, float]) -> None:
    found = lines(notes)
    ended = {int(line[1]) for line in found if line[0] == "end"}
    assert ended == set(range(JOBS)), f"lost: {sorted(set(range(JOBS)) - ended)}"
    again = 0
    for job in range(JOBS):
        begins = [line for line in found if line[0] == "begin" and int(line[1]) == job]
        first, last = enqueued[job], float(begins[-1][2])
        processes = {int(pid) for line in begins for pid in line[3:]}
        kills = [at for at in server_kills if first <= at <= last]
        kills += [at for pid, at in killed.items() if pid in processes and first <= at <= last]
        assert len(begins) <= 1 + len(kills), f"job {job} ran {len(begins)} times, {len(kills)} kills: {begins}"
        again += len(begins) - 1
    print(f"{JOBS} jobs, {len(server_kills)} kills of the server, {len(killed)} of workers, {again} extra runs")


def test_results_and_final_failures_are_kept(eventdb_server: StartServer, tmp_path: Path) -> None:
    """RQ 3 keeps them in streams: XADD in the MULTI block that ends a job, XREVRANGE to read the latest."""
    server = eventdb_server()
    with redis.Redis(port=server.port) as client:
        queue = Queue("jobs", connection=client)
        good = queue.enqueue(work, str(tmp_path / "notes.txt"), 1, 0.0)
        bad = queue.enqueue(work, str(tmp_path / "no" / "such" / "folder"), 2, 0.0)
        assert good.latest_result() is None
        Workers(server, tmp_path).start("--burst").wait(60)
        kept, failure = good.latest_result(), bad.latest_result()
        assert kept is not None and kept.type is Result.Type.SUCCESSFUL
        assert failure is not None and failure.type is Result.Type.FAILED
        assert "FileNotFoundError" in str(failure.exc_string)
        assert FailedJobRegistry(queue=queue).get_job_ids() == [bad.id]
