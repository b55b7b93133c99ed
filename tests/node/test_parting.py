"""Clients of a primary that is none any more: what they are owed, that they are closed, and whom they are sent to."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from contextlib import ExitStack, closing
from itertools import groupby
from pathlib import Path

import hiredis
import pytest
import redis
from redis.sentinel import Sentinel

from eventdb.cluster.topology import Member
from eventdb.engine.client import FOLLOWING, HANDING, Client
from eventdb.engine.settings import Config
from eventdb.node.node import READONLY_TEXT
from eventdb.node.parting import Parting
from eventdb.protocol.replies import error
from tests.conftest import StartServer, wait_until
from tests.kit.harness import Local
from tests.kit.wire import Wire, encode
from tests.node.test_failover import Trio, write_until_accepted


def replies(wire: Wire) -> list[str]:
    """Everything that comes before the server closes."""
    found: list[str] = []
    try:
        while True:
            found.append(str(wire.receive()))
    except ConnectionError:
        return found


class Watch(threading.Thread):
    """Asks every node all the time who the primary is, as redis-py does. An answer is a port; 0: nobody."""

    def __init__(self, trio: Trio) -> None:
        super().__init__(daemon=True)
        self.wires = [Wire(node.port) for node in trio.nodes]
        self.ports = [node.port for node in trio.nodes]
        self.heard: list[list[int]] = [[] for _ in trio.nodes]
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.is_set():
            for i, wire in enumerate(self.wires):
                try:
                    master = wire("SENTINEL", "MASTER", "mymaster")
                except ConnectionError:
                    wire.close()
                    self.wires[i] = Wire(self.ports[i])
                    continue
                assert isinstance(master, list)
                facts = dict(zip(master[::2], master[1::2], strict=True))
                self.heard[i].append(0 if b"down" in facts[b"flags"] else int(facts[b"port"]))

    def __enter__(self) -> Watch:
        self.start()
        wait_until(lambda: all(self.heard), what="every node has answered once")
        return self

    def __exit__(self, *exc: object) -> None:
        self.ended.set()
        self.join()
        for wire in self.wires:
            wire.close()


def test_a_hand_over_answers_what_is_owed_closes_the_clients_and_always_names_a_primary(
    eventdb_server: StartServer, tmp_path: Path
) -> None:
    """They heard -READONLY for as long as they lived, and for a moment nobody was the primary."""
    trio = Trio(eventdb_server, tmp_path)
    old = trio.primary()
    new = trio.others(old)[0]
    with ExitStack() as stack:
        idle, writing, blocked, listening, asking = (stack.enter_context(Wire(old.port)) for _ in range(5))
        assert writing("RPUSH", "list", "0") == 1 and idle("PING") == b"PONG"
        blocked.send(encode("BLPOP", "nothing", "0"), encode("ECHO", "after"))
        assert listening("SUBSCRIBE", "channel") == [b"subscribe", b"channel", 1]
        watch = stack.enter_context(Watch(trio))
        assert asking("FAILOVER", "TO", "127.0.0.1", str(new.port)) == b"OK"
        writing.send(*[encode("RPUSH", "list", str(i)) for i in range(1, 200)])
        answers = replies(writing)
        assert replies(idle) == []
        assert replies(blocked) == [
            "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)", "b'after'"
        ]  # fmt: skip
        with Wire(new.port) as there:
            kept = there("LLEN", "list")
            assert isinstance(kept, int) and set(answers[kept - 1 :]) == {READONLY_TEXT}
            assert answers[: kept - 1] == [str(i + 1) for i in range(1, kept)]
            wait_until(lambda: _arrives(there, listening), what="the old primary is passed messages")
        assert listening.receive() == [b"message", b"channel", b"m"], "a subscriber may stay"
        for heard in watch.heard:
            wait_until(lambda heard=heard: heard[-1] == new.port, what="everyone names the new primary")  # type: ignore[misc]
            assert [port for port, _ in groupby(heard)] == [old.port, new.port], "somebody named nobody"
    trio.agree()


def _arrives(there: Wire, listening: Wire) -> bool:
    """Publish once more: until the old primary has announced itself nothing is passed on to it."""
    there("PUBLISH", "channel", "m")
    return bool(select.select([listening.socket], [], [], 0.05)[0])


def test_a_hand_over_costs_redis_py_no_more_than_the_write_that_was_on_its_way(
    eventdb_server: StartServer, tmp_path: Path
) -> None:
    """With its defaults. It gave up looking for the primary, and its idle connections heard -READONLY later."""
    trio = Trio(eventdb_server, tmp_path)
    sentinel = Sentinel([("127.0.0.1", node.port) for node in trio.nodes])
    with closing(sentinel.master_for("mymaster")) as master, closing(sentinel.master_for("mymaster")) as idle:
        count = master.incr("n")
        for _ in range(2):
            old = trio.primary()
            new = trio.others(old)[0]
            assert idle.get("n") == b"%d" % count
            with Wire(old.port) as wire:
                assert wire("FAILOVER", "TO", "127.0.0.1", str(new.port)) == b"OK"
            failures: list[str] = []
            deadline = time.monotonic() + 10
            while master.connection_pool.master_address != ("127.0.0.1", new.port):
                assert time.monotonic() < deadline, "it goes on talking to the old primary"
                try:
                    assert master.incr("n") == count + 1
                    count += 1
                except redis.ConnectionError as failure:
                    failures.append(str(failure))
            assert failures in ([], ["The previous master is now a slave"])
            assert idle.incr("n") == count + 1
            count += 1
            wait_until(lambda: trio.listed(trio.primary()) == 2, what="the old primary is listed again")
    trio.agree()


def test_a_primary_that_was_stopped_closes_its_clients_when_it_finds_another_one(
    eventdb_server: StartServer, tmp_path: Path
) -> None:
    trio = Trio(eventdb_server, tmp_path)
    old = trio.primary()
    with Wire(old.port) as idle, Wire(old.port) as writing:
        assert idle("PING") == b"PONG" and writing("SET", "k", "0") == b"OK"
        os.kill(old.pid, signal.SIGSTOP)
        write_until_accepted(trio, "k", "1")
        writing.send(encode("SET", "k", "2"), encode("GET", "k"))
        os.kill(old.pid, signal.SIGCONT)
        assert replies(idle) == []
        answers = replies(writing)
        assert not set(answers) & {"OK", "b'0'", "b'2'"}, f"{answers} is what was before its time"
    trio.agree()


# -- one engine


def parted() -> tuple[Local, Parting]:
    """A node that has given its lease to somebody who is not there yet."""
    local = Local()
    local.raw("SET", "k", "v")
    parting = Parting(local.engine)
    parting.on_parted = lambda: None
    local.engine.gate, local.engine.gate_error = FOLLOWING, READONLY_TEXT
    parting.hold(5)
    return local, parting


def settled(local: Local, client: Client) -> bytes:
    """What a client hears when what has waited is run."""
    local.turn()
    client.flush()
    return local.take(client)


def test_writes_wait_for_the_successor_and_reads_do_not() -> None:
    local, parting = parted()
    assert local.raw("GET", "k") == b"$1\r\nv\r\n"
    assert local.raw("SET", "k", "w") == b"" and local.client.stalled == [b"SET", b"k", b"w"]
    parting.found(1.0)
    assert settled(local, local.client) == error(READONLY_TEXT) and not local.engine.gate & HANDING


def test_a_successor_that_does_not_come_is_not_waited_for() -> None:
    local, _parting = parted()
    local.engine.topology.update(2, None, [], handing_over=True)
    local.timers[-1][1]()
    assert local.raw("SET", "k", "w") == error(READONLY_TEXT) and local.engine.topology.is_down


def test_who_comes_back_as_the_primary_runs_what_has_waited() -> None:
    local, parting = parted()
    assert local.raw("SET", "k", "w") == b"" and len(local.events()) == 1
    local.engine.gate &= ~FOLLOWING
    parting.returned()
    assert settled(local, local.client) == b"+OK\r\n" and local.events()[1:] == [[b"SET", b"k", b"w"]]
    local.check_replay()


def test_who_is_sent_to_the_old_primary_by_a_node_that_knows_no_better_is_closed_too() -> None:
    local, parting = parted()
    parting.found(1.0)
    reader, writer, late = local.connect(), local.connect(), local.connect()
    assert local.raw("GET", "k", client=reader) == b"$1\r\nv\r\n" and not reader.closing
    assert local.raw("SET", "k", "w", client=writer) == error(READONLY_TEXT) and writer.closing
    local.timers[-1][1]()
    assert local.raw("SET", "k", "w", client=late) == error(READONLY_TEXT)
    assert not late.closing, "it wants to read a replica"


def test_in_a_cluster_commands_wait_at_the_old_primary_and_the_others_go_on_naming_it() -> None:
    """They heard CLUSTERDOWN from everyone."""
    config = Config()
    config.set("cluster-enabled", "yes")
    local = Local(config=config)
    topology = local.engine.topology
    me, new = topology.me, Member("b", "h:2")
    topology.update(2, None, [new], handing_over=True)
    local.engine.gate, local.engine.gate_error = FOLLOWING | HANDING, READONLY_TEXT
    reader, writer = local.connect(), local.connect()
    assert local.raw("GET", "k", client=reader) == local.raw("SET", "k", "v", client=writer) == b""
    assert b"cluster_state:ok" in local.raw("CLUSTER", "INFO")
    topology.update(3, new, [])
    local.engine.gate &= ~HANDING
    local.engine.run_stalled_later()
    assert settled(local, reader) == settled(local, writer) == error("MOVED 7629 h:2")
    topology.update(4, None, [me], handing_over=True)
    assert local.raw("GET", "k") == error("MOVED 7629 h:2"), "where it waits"
    topology.update(4, None, [me])
    assert local.raw("GET", "k") == error("CLUSTERDOWN The cluster is down")


@pytest.mark.parametrize("handing_over", [True, False])
def test_sentinel_calls_nobody_down_who_has_named_a_successor(handing_over: bool) -> None:
    local = Local()
    topology = local.engine.topology
    topology.update(2, Member("b", "h:2"), [])
    topology.update(2, None, [], handing_over=handing_over)
    told = hiredis.Reader()
    told.feed(local.raw("SENTINEL", "MASTER", "mymaster"))
    told.feed(local.raw("SENTINEL", "IS-MASTER-DOWN-BY-ADDR", "h", "2", "0", "*"))
    flags = "master" if handing_over else "master,s_down,o_down,disconnected"
    assert told.gets()[9] == flags.encode() and told.gets()[0] == (not handing_over)
