"""What is Kafka's own, on one real broker: topics, late records, large ones, passwords, whole nodes."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from typing import Any

import pytest

import eventdb
from eventdb.backends import BadLogURL, Corrupt, Fenced, Indeterminate, RecordKind, Trimmed, Unavailable
from eventdb.backends.conformance import data_of, fill, raised, read_all
from eventdb.backends.kafka import KafkaLog, KafkaWriter, WeakTopic
from eventdb.backends.kafka.link import Link, NoAnswer
from eventdb.backends.kafka.producer import Producer
from eventdb.backends.record import Encoder
from eventdb.cli.dev.brokers import Brokers, free_ports
from tests.conftest import StartServer
from tests.kit.kafka_brokers import USERS, OpenLog, make_topic, topic_name

pytestmark = pytest.mark.kafka


def forged(epoch: int, position: int, first_offset: int, body: bytes) -> bytes:
    (frame,) = Encoder().encode(
        body, kind=int(RecordKind.DATA), epoch=epoch, position=position, durable_end=position,
        first_offset=first_offset, count=1, time_ms=0,
    )  # fmt: skip
    return frame


async def put(log: KafkaLog, value: bytes) -> int:
    """Append bytes as another producer would, past every rule."""
    link = Link(log._address)
    try:
        while True:
            try:
                return await Producer(link).send([value])
            except NoAnswer:
                await asyncio.sleep(0.05)
    finally:
        await link.close()


async def test_a_stale_writers_late_record_is_void_for_every_reader(kafka: Brokers, opened: OpenLog) -> None:
    log, other = opened(url := kafka.url(topic_name())), opened(url)
    old = await log.claim("old")
    await fill(old, [b"one"])
    new = await other.claim("new")
    late = await put(log, forged(old.epoch, 2, 2, b"late"))
    exact = await put(log, forged(old.epoch, late + 1, 2, b"late, where it says it would be"))
    (after,) = await fill(new, [b"two"])
    assert after > exact
    for start in range(after + 1):
        records = await read_all(log, start)
        assert b"two" in data_of(records)
        assert all(record.body in (b"one", b"two") for record in records if record.kind is RecordKind.DATA)
    await raised(old.append(b"more", first_offset=2, count=1, time_ms=9), Fenced)
    assert [line async for line in log.verify()] == []


async def test_two_writers_racing_lose_nothing_and_double_nothing(kafka: Brokers, opened: OpenLog) -> None:
    url = kafka.url(topic_name())
    acknowledged: list[bytes] = []

    async def write(name: str) -> int:
        log = opened(url)
        claims = 0
        for _ in range(6):
            try:
                writer = await log.claim(name)
            except Fenced:
                continue
            claims += 1
            bodies = [b"%s-%d-%d" % (name.encode(), writer.epoch, number) for number in range(40)]
            for body in bodies:
                try:
                    await writer.append(body, first_offset=writer.next_offset, count=1, time_ms=0)
                except Fenced:
                    break
                acknowledged.append(body)
        return claims

    claims = await asyncio.gather(write("a"), write("b"))
    found = data_of(await read_all(opened(url)))
    assert sum(claims) >= 6
    assert len(found) == len(set(found))
    assert set(acknowledged) <= set(found)
    for name in (b"a", b"b"):
        mine = [body for body in acknowledged if body.startswith(name)]
        assert [body for body in found if body in set(mine)] == mine


async def test_a_lost_answer_is_read_back_and_the_record_is_there_once(
    kafka: Brokers, opened: OpenLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = opened(kafka.url(topic_name()))
    writer = await log.claim("node")
    rng = random.Random(4)
    real = Producer.send
    fates: list[str] = []

    async def lossy(self: Producer, frames: Any, key: bytes | None = None) -> int:
        fate = rng.choice(("answered", "lost after", "lost before", "no position"))
        fates.append(fate)
        if fate == "lost before":
            raise NoAnswer("the request was lost")
        position = await real(self, frames, key)
        if fate != "answered":
            self._sequence -= len(frames) if self._id >= 0 else 0  # as when the answer had not come
            raise NoAnswer("the answer was lost")
        return position

    monkeypatch.setattr(Producer, "send", lossy)
    bodies = [b"%d" % number for number in range(20)]
    positions = [(await fill(writer, [body]))[0] for body in bodies]
    records = await read_all(log)
    assert data_of(records) == bodies
    assert positions == [record.position for record in records if record.kind is RecordKind.DATA]
    assert len(set(fates)) == 4
    assert writer.stats.zone_errors == sum(fate != "answered" for fate in fates)


async def test_a_record_larger_than_the_topic_takes_is_split(kafka: Brokers, opened: OpenLog) -> None:
    topic = topic_name()
    await make_topic(kafka, topic, {"max.message.bytes": "50000"})
    log = opened(kafka.url(topic))
    writer = await log.claim("node")
    large = random.Random(1).randbytes(400_000)
    positions = await fill(writer, [b"before", large, b"after"])
    assert positions[1] - positions[0] >= 8
    records = await read_all(log)
    assert data_of(records) == [b"before", large, b"after"]
    assert (await log.info()).last_offset == 3
    half = await read_all(log, positions[1] - 2)  # from inside it: what begins there is not shown
    assert data_of(half) == [b"after"]


async def test_a_limit_that_shrinks_under_a_writer_makes_its_batches_smaller(kafka: Brokers, opened: OpenLog) -> None:
    topic = topic_name()
    await make_topic(kafka, topic, {"max.message.bytes": "30000"})
    log = opened(kafka.url(topic))
    writer = await log.claim("node")
    writer._batch_bytes = 500_000
    bodies = [random.Random(number).randbytes(5000) for number in range(40)]
    await fill(writer, bodies)
    assert data_of(await read_all(log)) == bodies
    assert writer.trouble == ""


async def test_a_weak_topic_is_refused_and_told_how_to_mend_it(kafka: Brokers, opened: OpenLog) -> None:
    topic = topic_name()
    await make_topic(kafka, topic, {"retention.ms": "604800000", "unclean.leader.election.enable": "true"})
    strict = opened(kafka.url(topic).partition("?")[0])
    with pytest.raises(WeakTopic) as refused:
        await strict.claim("node")
    for setting in ("retention.ms=-1", "unclean.leader.election.enable=false", "min.insync.replicas=2"):
        assert f"kafka-configs --alter --entity-type topics --entity-name {topic} --add-config {setting}" in str(
            refused.value
        )
    assert "replication factor is 1 and must be 3" in str(refused.value)
    assert "retention.bytes" not in str(refused.value)
    assert await strict.is_empty()
    assert any("retention.ms is 604800000" in line for line in [line async for line in strict.verify()])
    await (await opened(kafka.url(topic)).claim("node")).close()  # ?allow-weak=1


async def test_too_few_brokers_are_refused_before_a_topic_is_made(kafka: Brokers, opened: OpenLog) -> None:
    log = opened(kafka.url(topic_name()).partition("?")[0])
    with pytest.raises(WeakTopic, match="needs 3 brokers"):
        await log.claim("node")
    assert await log.is_empty()
    assert (await log.info()).zones == ()


async def test_two_partitions_can_hold_no_log(kafka: Brokers, opened: OpenLog) -> None:
    topic = topic_name()
    await make_topic(kafka, topic, {}, partitions=2)
    with pytest.raises(WeakTopic, match="2 partitions and needs exactly 1"):
        await opened(kafka.url(topic)).claim("node")


async def test_trim_leaves_a_log_that_says_where_it_begins(kafka: Brokers, opened: OpenLog) -> None:
    log, elsewhere = opened(url := kafka.url(topic_name())), opened(url)
    writer = await log.claim("node")
    positions = await fill(writer, [b"%d" % number for number in range(50)])
    await log.trim(positions[20])
    info = await elsewhere.info()
    assert (info.first_position, info.first_offset, info.last_offset) == (positions[20], 21, 50)
    with pytest.raises(Trimmed, match="the first one kept is"):
        await read_all(elsewhere, positions[19])
    with pytest.raises(Trimmed, match="the first one kept is 21"):
        await elsewhere.seek(20)
    assert data_of(await read_all(elsewhere, positions[20])) == [b"%d" % number for number in range(20, 50)]
    assert [line async for line in elsewhere.verify()] == []
    again = await elsewhere.claim("next")
    assert (again.epoch, again.next_offset) == (2, 51)


async def test_bytes_that_are_no_record_stop_a_reader_and_say_where(kafka: Brokers, opened: OpenLog) -> None:
    log = opened(kafka.url(topic_name()))
    await fill(await log.claim("node"), [b"one"])
    at = await put(log, b"not a frame")
    with pytest.raises(Corrupt, match=f"position {at}: "):
        await read_all(log)
    (finding,) = [line async for line in log.verify() if "position" in line]
    assert finding.startswith(f"topic {log._address.topic}: position {at}: ")


async def test_a_follower_waits_for_a_topic_that_is_not_there_yet(kafka: Brokers, opened: OpenLog) -> None:
    log, other = opened(url := kafka.url(topic_name())), opened(url)
    batches = other.read(follow=True)
    first = asyncio.ensure_future(anext(batches))
    await fill(await log.claim("node"), [b"one"])
    assert (await asyncio.wait_for(first, 10)).records
    await batches.aclose()  # type: ignore[attr-defined]


async def test_no_broker_at_all_is_unavailable(opened: OpenLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventdb.backends.kafka.log.PATIENCE_S", 0.3)
    monkeypatch.setattr("eventdb.backends.kafka.topic.PATIENCE_S", 0.3)
    log = opened(f"kafka://127.0.0.1:{free_ports(1)[0]}/nothing")
    with pytest.raises(Unavailable, match="Connect call failed"):
        await read_all(log)
    with pytest.raises(Unavailable, match="Connect call failed"):
        await log.claim("node")


async def test_a_password_lets_in_and_never_shows(
    kafka: Brokers, opened: OpenLog, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    ((name, secret),) = USERS.items()
    options = tmp_path / "client.properties"
    lines = (
        "# how to get in",
        "security.protocol=SASL_PLAINTEXT",
        f"sasl.username = {name}",
        f"sasl.password={secret}",
    )
    options.write_text("\n".join(lines))
    where = f"kafka://127.0.0.1:{kafka.ports['SASL']}/{topic_name()}?allow-weak=1"
    for url in (
        f"{where}&options={options}",
        f"{where}&security-protocol=SASL_PLAINTEXT&sasl-username={name}&sasl-password={secret}",
    ):
        log = opened(url)
        writer = await log.claim("node")
        await fill(writer, [b"in"])
        shown = f"{log.url} {log!r} {log._address!r} {await log.info()!r} {vars(log)!r}"
        assert secret not in shown
    fresh = url.replace(log._address.topic, topic_name())
    async with eventdb.open(fresh) as db:  # the options of the last one stand in the URL
        assert secret not in str(await db.execute("INFO", "everything"))
    with pytest.raises(Unavailable) as refused:
        await opened(url.replace(secret, "wrong-guess")).claim("node")
    assert "does not let us in" in str(refused.value)
    assert "wrong-guess" not in str(refused.value)
    assert secret not in caplog.text and "wrong-guess" not in caplog.text


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("kafka:topic", "write kafka://BROKER:PORT"),
        ("kafka://host:1", "names no topic"),
        ("kafka://host:1/a b", "names no topic"),
        ("kafka://host:x/t", "'host:x' is no broker"),
        ("kafka://a:1,,b:2/t", "'' is no broker"),
        ("kafka://u:secret@host:1/t", "takes no user@"),
        ("kafka://host/t?zones=3", "has no option zones"),
        ("kafka://host/t?allow-weak=yes", "allow-weak is 0 or 1"),
        ("kafka://host/t?sasl-username=a&sasl-password=secret", "all three"),
        ("kafka://host/t?ssl-cafile=/x", "need security-protocol"),
        ("kafka://host/t?security-protocol=SSL&ssl-keyfile=/x", "ssl-keyfile needs ssl-certfile"),
        ("kafka://host/t?options=/does/not/exist&sasl-password=secret", "cannot be read"),
    ],
)
def test_a_url_that_makes_no_sense_is_refused_without_its_secrets(url: str, text: str) -> None:
    with pytest.raises(BadLogURL) as refused:
        KafkaLog(url)
    assert text in str(refused.value)
    assert "secret" not in str(refused.value)


async def test_a_whole_node_restarts_on_kafka(kafka: Brokers) -> None:
    url = kafka.url(topic_name())
    async with eventdb.open(url) as db:
        for number in range(100):
            await db.execute("RPUSH", "list", number)
        await db.execute("HSET", "hash", "field", "value")
        kept = await db.execute("LRANGE", "list", 0, -1)
    async with eventdb.open(url) as db:
        assert await db.execute("LRANGE", "list", 0, -1) == kept
        assert await db.execute("HGETALL", "hash") == {b"field": b"value"}
        await db.execute("DEL", "list")
    async with eventdb.open(url) as db:
        assert await db.execute("KEYS", "*") == [b"hash"]


def test_a_server_killed_on_kafka_comes_back_with_everything(kafka: Brokers, eventdb_server: StartServer) -> None:
    import redis

    server = eventdb_server(kafka.url(topic_name()))
    with redis.Redis(port=server.port) as client:
        for number in range(200):
            client.set(f"k{number}", number)
    server.kill()
    server.restart()
    with redis.Redis(port=server.port) as client:
        assert [client.get(f"k{number}") for number in range(200)] == [b"%d" % number for number in range(200)]


def test_restore_from_files_to_kafka_and_back(kafka: Brokers, tmp_path: Any) -> None:
    def restore(source: str, target: str) -> str:
        command = [sys.executable, "-m", "eventdb", "restore", "--log", source, "--to-latest", "--into", target]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return next(line for line in done.stdout.splitlines() if "digest" in line)

    with eventdb.open_sync(f"quorum:{tmp_path}/one") as db:
        for number in range(300):
            db.execute("SET", f"k{number}", f"v{number}" * 20)
    url = kafka.url(topic_name())
    assert restore(f"quorum:{tmp_path}/one", url) == restore(url, f"quorum:{tmp_path}/two")
    with eventdb.open_sync(f"quorum:{tmp_path}/two") as db:
        assert db.execute("DBSIZE") == 300


async def test_an_abandoned_writers_pending_appends_are_indeterminate(kafka: Brokers, opened: OpenLog) -> None:
    log = opened(kafka.url(topic_name()))
    writer: KafkaWriter = await log.claim("node")
    future = writer.append(b"x", first_offset=1, count=1, time_ms=0)
    writer.abandon()
    await raised(future, Indeterminate)
