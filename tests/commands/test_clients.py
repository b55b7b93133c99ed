"""A real server and real clients: redis-py understands CLIENT, INFO, CONFIG, pub/sub; connections end as asked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import redis

from tests.conftest import Server, StartServer, wait_until
from tests.kit.wire import Wire, encode


@pytest.fixture
def server(eventdb_server: StartServer) -> Server:
    return eventdb_server(None, "--config", "enable-debug-command=local")


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with redis.Redis(port=server.port, decode_responses=True, client_name="tester") as made:
        yield made


def test_redis_py_understands_what_the_server_says_of_itself(client: redis.Redis, server: Server) -> None:
    assert client.ping() and client.echo("x") == "x" and client.client_getname() == "tester"
    (me,) = client.client_list()
    assert me["name"] == "tester" and me["lib-name"] == "redis-py" and me["cmd"] == "client|list"
    assert client.client_info()["id"] == client.client_id()
    assert client.config_set("timeout", 100) and client.config_get("timeout") == {"timeout": "100"}
    found = client.info()
    assert found["tcp_port"] == server.port and found["aof_enabled"] == 1 and found["role"] == "master"
    assert client.set("k", "v") and client.execute_command("EVENTDB.OFFSET")[0] >= 1
    assert client.info("keyspace")["db0"]["keys"] == 1
    assert client.wait(1, 1000) == 0 and client.save() and client.lastsave() and client.time()
    assert client.command_count() == len(client.command()) and client.role()[0] == "master"
    assert client.slowlog_len() >= 0 and client.memory_usage("k") and client.acl_whoami() == "default"
    with redis.Redis(port=server.port, protocol=3) as other:
        assert other.client_list() and other.info()["eventdb_build"] in ("pure", "compiled")
        assert other.client_trackinginfo()


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_publishes_and_listens(client: redis.Redis, server: Server, protocol: int) -> None:
    with redis.Redis(port=server.port, protocol=protocol) as other, other.pubsub() as listener:
        listener.subscribe("news")
        listener.psubscribe("n*")
        assert [listener.get_message(timeout=5)["type"] for _ in range(2)] == ["subscribe", "psubscribe"]
        assert client.publish("news", "hi") == 2
        assert [listener.get_message(timeout=5)["data"] for _ in range(2)] == [b"hi", b"hi"]
        listener.unsubscribe()
        listener.punsubscribe()
        assert [listener.get_message(timeout=5)["type"] for _ in range(2)] == ["unsubscribe", "punsubscribe"]


def test_a_pause_holds_writes_back_until_its_time_is_over(client: redis.Redis, server: Server) -> None:
    with redis.Redis(port=server.port) as other:
        other.ping()
        client.client_pause(300, all=False)
        assert other.get("k") is None
        assert other.set("k", "v")  # answers when the pause is over
        assert client.get("k") == "v"


def test_kill_timeout_and_quit_close_the_socket(client: redis.Redis, server: Server) -> None:
    for end in ("kill", "quit", "timeout"):
        with Wire(server.port) as wire:
            number = wire("CLIENT", "ID")
            if end == "kill":
                assert client.client_kill_filter(_id=number) == 1  # type: ignore[arg-type]
            elif end == "quit":
                assert wire("QUIT") == b"OK"
            else:
                client.config_set("timeout", 1)
            wire.socket.settimeout(10)
            assert wire.socket.recv(1) == b""
    assert "rejected_connections" in client.info("stats")


def test_more_clients_than_allowed_are_told_so(client: redis.Redis, server: Server) -> None:
    client.config_set("maxclients", 2)
    with Wire(server.port) as one:
        assert one("PING") == b"PONG"
        with Wire(server.port) as two:
            assert str(two.receive()) == "ERR max number of clients reached"
    assert client.info("stats")["rejected_connections"] == 1


def test_a_command_longer_than_the_query_buffer_ends_the_connection(client: redis.Redis, server: Server) -> None:
    client.config_set("client-query-buffer-limit", 1 << 20)
    with Wire(server.port) as wire:
        wire.send(b"*100\r\n")
        with contextlib.suppress(OSError):  # closed while we send
            wire.send((b"$65536\r\n" + b"x" * 65536 + b"\r\n") * 99)
        with pytest.raises(OSError, match=r"closed|reset"):
            wire.receive()
    assert client.ping()


def test_a_subscriber_that_reads_nothing_is_closed_and_the_publisher_is_not_held_up(
    client: redis.Redis, server: Server
) -> None:
    client.config_set("client-output-buffer-limit", "pubsub 2mb 0 0")
    with Wire(server.port) as wire:
        assert wire("SUBSCRIBE", "c") == [b"subscribe", b"c", 1]
        sent = 0
        while client.publish("c", "x" * (256 << 10)):
            sent += 1
            assert sent < 200, "50 MB unread and still connected"
    wait_until(lambda: client.pubsub_channels() == [], what="the subscriber is forgotten")


def test_after_a_pipelined_auth_the_limits_for_strangers_are_lifted(eventdb_server: StartServer) -> None:
    server = eventdb_server(None, "--requirepass", "sesame")
    many = [f"k{i}" for i in range(40)]
    with Wire(server.port) as wire:
        wire.send(encode("AUTH", "sesame"), encode("MSET", *many), encode("SET", "big", "x" * 20_000), encode("PING"))
        assert [wire.receive() for _ in range(4)] == [b"OK", b"OK", b"OK", b"PONG"]
    with Wire(server.port) as wire:
        wire.send(encode("AUTH", "wrong"), encode("MSET", *many))
        assert str(wire.receive()).startswith("WRONGPASS")
        assert str(wire.receive()) == "ERR Protocol error: unauthenticated multibulk length"
        with pytest.raises(ConnectionError):
            wire.receive()
    with Wire(server.port) as wire:
        for byte in encode("AUTH", "sesame") + encode("MSET", *many):
            wire.send(bytes([byte]))
        assert [wire.receive(), wire.receive()] == [b"OK", b"OK"]


def test_shutdown_ends_the_process_and_keeps_every_write(client: redis.Redis, server: Server) -> None:
    client.set("k", "v")
    with Wire(server.port) as wire, pytest.raises(ConnectionError):
        wire("SHUTDOWN")
    assert server.process.wait(15) == 0
    server.restart()
    assert client.get("k") == "v"
