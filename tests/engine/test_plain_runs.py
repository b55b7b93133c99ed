"""plain_run.c against the handlers: the same bytes give the same replies, events, dirty keys and counts.

Two engines are driven through connections, one with plain runs and one without, on one clock.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from eventdb.engine import plain_runs
from eventdb.engine.client import Client
from eventdb.engine.command import BLOCKING, IMMEDIATE, SERVER, WHOLE, WRITE
from tests.kit import plain_run as kit
from tests.kit.differential import examples
from tests.kit.harness import Local
from tests.kit.plain_pair import NOW, PATIENT, Pair, Run, Side, find_run
from tests.kit.plain_run import encode, random_command, spoiled
from tests.kit.transport import Ends


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return find_run(tmp_path_factory)


@pytest.fixture(autouse=True)
def _one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW[0])


# What is not plain, or makes what follows not plain.
OTHERS: list[tuple[bytes, ...]] = [
    (b"HSET", b"d", b"a", b"1", b"b", b"2"),
    (b"HSET", b"d", b"b", b"x" * 70000),
    (b"APPEND", b"c", b"more"),
    (b"APPEND", b"a", b"1"),
    (b"LPUSH", b"e", b"1"),
    (b"RPUSH", b"e", b"2", b"3"),
    (b"LPUSH", b"e", b"-1", b"-2", b"x" * 70000),
    (b"LPOP", b"e"),
    (b"ZADD", b"", b"1", b"one", b"2", b"two", b"0.5", b"half"),
    (b"ZADD", b"", b"0", b"two"),
    (b"ZREM", b"", b"one"),
    (b"ZRANGE", b"", b"0", b"-1", b"WITHSCORES"),
    (b"ZRANGE", b"", b"0", b"2", b"REV"),
    (b"HSET", b"a", b"f", b"1"),
    (b"SADD", b"b", b"1"),
    (b"DEL", b"a", b"d"),
    (b"DEL", b"b"),
    (b"STRLEN", b"a"),
    (b"PEXPIRE", b"a", b"5"),
    (b"PEXPIRE", b"b", b"100000"),
    (b"PERSIST", b"a"),
    (b"SET", b"a", b"1", b"PX", b"7"),
    (b"SET", b"a", b"1", b"GET"),
    (b"GET",),
    (b"GET", b"a", b"b"),
    (b"HGET", b"d"),
    (b"MGET",),
    (b"NOSUCH", b"a"),
    (b"MULTI",),
    (b"EXEC",),
    (b"WATCH", b"a"),
    (b"UNWATCH",),
    (b"SELECT", b"1"),
    (b"SELECT", b"0"),
    (b"CLIENT", b"REPLY", b"SKIP"),
    (b"CLIENT", b"REPLY", b"OFF"),
    (b"CLIENT", b"REPLY", b"ON"),
    (b"HELLO", b"3"),
    (b"HELLO", b"2"),
    (b"SCAN", b"0"),
    (b"RANDOMKEY",),
    (b"FLUSHDB",),
    (b"FLUSHALL",),
    (b"SWAPDB", b"0", b"1"),
    (b"SUBSCRIBE", b"x"),
    (b"UNSUBSCRIBE",),
    (b"BLPOP", b"e", b"0"),
    (b"CLIENT", b"SETNAME", b"somebody"),
    (b"CONFIG", b"SET", b"slowlog-log-slower-than", b"0"),
    (b"CONFIG", b"SET", b"slowlog-log-slower-than", b"10000000"),
    (b"CONFIG", b"SET", b"track-access", b"yes"),
    (b"CONFIG", b"SET", b"track-access", b"no"),
    (b"INFO", b"nothing"),
]
RAW = [
    b"*2\r\n$03\r\nGET\r\n$1\r\na\r\n",
    b"*02\r\n$3\r\nGET\r\n$1\r\na\r\n",
    b"PING\r\n",
    b"GET a\r\n",
    b"*0\r\n",
    b"*2\rX$3\rXGET\rX$1\rXa\rX",
    b"*2\r\n$3\r\nGET\r\n$1\r\naXX",
]

plain = st.integers(0, 1 << 32).map(lambda seed: random_command(random.Random(seed)))
others = st.sampled_from([*[encode(*argv) for argv in OTHERS], *RAW])
command = st.one_of(plain, plain, plain, plain, others)
# (connection, commands sent at once, where they are cut, a turn of the loop afterwards, ms that pass)
step = st.tuples(
    st.integers(0, PATIENT - 1), st.lists(command, min_size=1, max_size=12), st.lists(st.integers(0, 400), max_size=2),
    st.booleans(), st.sampled_from([0, 0, 6, 200]),
)  # fmt: skip
Step = tuple[int, list[bytes], list[int], bool, int]


@examples(100)
@given(st.lists(step, min_size=1, max_size=10))
def test_the_same_bytes_have_the_same_effects(run: Run, steps: list[Step]) -> None:
    pair = Pair(run)
    for number, commands, cuts, turns, ms in steps:
        stream = b"".join(commands)
        points = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
        for a, b in pairwise(points):
            pair.feed(number, stream[a:b])
        if turns:
            pair.turn()
        NOW[0] += ms / 1000
    pair.finish()


STREAM = b"".join(
    [
        encode(b"SET", b"a", b"1"), encode(b"GET", b"b"), encode(b"INCR", b"a"), encode(b"set", b"k" * 40, b"v" * 40),
        encode(b"MGET", b"b", b"x", b"a"), encode(b"EXISTS", b"b", b"b"), encode(b"HGET", b"h", b"f"),
        encode(b"HGETALL", b"h"), encode(b"LRANGE", b"l", b"0", b"-1"), encode(b"ZRANGE", b"z", b"0", b"-1"),
        encode(b"GET", b"a"), encode(b"TOUCH", b"a"), encode(b"GET", b"h"), encode(b"INCR", b"n") * 2,
    ]
)  # fmt: skip


def test_every_cut_of_a_stream(run: Run) -> None:
    pair = Pair(run)
    for cut in range(len(STREAM) + 1):
        pair.feed(0, encode(b"DEL", b"h", b"n", b"a") + encode(b"HSET", b"h", b"f", b"v") + encode(b"SET", b"b", b"."))
        pair.turn()
        pair.feed(0, STREAM[:cut])
        if cut % 2:
            pair.turn()
        pair.feed(0, STREAM[cut:])
        pair.turn()
        for side in (pair.quick, pair.slow):
            transport = side.connections[0].transport
            assert isinstance(transport, Ends)
            transport.data = b""
    pair.finish()


@examples(100)
@given(st.integers(0, 1 << 32))
def test_spoiled_bytes_have_the_same_effects(run: Run, seed: int) -> None:
    rng = random.Random(seed)
    pair = Pair(run)
    for number in range(PATIENT):
        stream = b"".join([random_command(rng) for _ in range(rng.randrange(1, 8))])
        pair.feed(number, spoiled(rng, stream))
    pair.finish()


def test_plain_commands_do_run_there(run: Run) -> None:
    """Or the rest of this file would compare one way with itself."""
    side = Side(run)
    side.feed(0, encode(b"SET", b"a", b"1") * 3 + encode(b"INCR", b"a"))
    assert side.ran == 4
    side.turn()
    side.feed(0, encode(b"get", b"a") + encode(b"MGET", b"a", b"b") + encode(b"EXISTS", b"a"))
    assert side.ran == 7
    side.feed(0, encode(b"HSET", b"h", b"f", b"v"))
    side.turn()
    ran = side.ran
    side.feed(1, encode(b"HGET", b"h", b"f") + encode(b"TOUCH", b"a") + encode(b"GET", b"a"))
    assert side.ran == ran + 1, "up to the first command that is not plain"
    ran = side.ran
    side.feed(0, encode(b"SADD", b"s", b"m") * 2 + encode(b"RPUSH", b"l", b"1", b"2") + encode(b"LPUSH", b"l", b"0"))
    side.feed(0, encode(b"LINDEX", b"l", b"0") + encode(b"SETBIT", b"a", b"9", b"1") + encode(b"SISMEMBER", b"s", b"m"))
    assert side.ran == ran + 7, "reads of dirty keys, too, and what its handler runs"


@pytest.mark.parametrize(
    "argv",
    [
        (b"MSET", b"a", b"1"), (b"INCR", b"text"), (b"GET", b"h"), (b"HGET", b"s", b"f"), (b"SET", b"h", b"1"),
        (b"GET", b"old"), (b"INCR", b"timed"), (b"INCR", b"most"), (b"GET", b"large"), (b"HSET", b"s", b"f", b"v"),
        (b"HSET", b"h", b"f"), (b"SADD", b"h", b"m"), (b"LPUSH", b"h", b"m"), (b"RPUSH", b"timed", b"m"),
        (b"HSET", b"fields", b"f", b"v"), (b"ZRANK", b"h"),
    ],
    ids=lambda argv: b" ".join(argv).decode(),
)  # fmt: skip
def test_what_is_not_plain_is_left_untouched(run: Run, argv: tuple[bytes, ...]) -> None:
    side = Side(run)
    local = side.local
    local("SET", "text", "x"), local("HSET", "h", "f", "v"), local("SADD", "s", "m"), local("SET", "old", 1, "PX", 5)
    local("SET", "timed", 1, "PX", 500000), local("SET", "most", 2**63 - 1), local("SET", "large", "x" * 70000)
    local("HSET", "fields", "f", 1), local("HPEXPIRE", "fields", 500000, "FIELDS", 1, "f")
    NOW[0] += 1
    side.engine.read_clock()
    digest = side.engine.digest()
    assert side.connections[0].client is not None
    assert side.plain.take(side.connections[0].client, encode(*argv), 512) == 0
    assert side.engine.digest() == digest
    assert side.engine.commit.open.count <= 1


def test_a_pipeline_that_is_cut_goes_on_there(run: Run) -> None:
    """Else of a long one only the first chunk would be quick."""
    stream = encode(b"SET", b"key", b"value") * 90
    for size in (1, 7, 100, 1000):
        side = Side(run)
        for start in range(0, len(stream), size):
            side.feed(0, stream[start : start + size])
        cuts = (len(stream) - 1) // size
        assert side.ran >= 90 - cuts and side.engine.commit.offset == 90, size


@pytest.mark.parametrize("data", [*RAW, encode(b"GET", b"a")[:-1], b"*2\r\n$3\r\nGET\r\n$0000000001\r\na\r\n"])
def test_odd_requests_are_for_the_parser(run: Run, data: bytes) -> None:
    side = Side(run)
    assert side.connections[0].client is not None
    assert side.plain.take(side.connections[0].client, data, 512) == 0


def test_a_plain_set_ends_the_deadline(run: Run) -> None:
    pair = Pair(run)
    pair.feed(0, encode(b"SET", b"a", b"1", b"PX", b"50000") + encode(b"SET", b"b", b"1", b"PX", b"50000"))
    pair.turn()
    ran = pair.quick.ran
    pair.feed(0, encode(b"GET", b"a") + encode(b"SET", b"a", b"2"))
    assert pair.quick.ran == ran + 2
    assert list(pair.quick.engine.store.keyspace.dbs[0].expires) == [b"b"]
    pair.feed(0, encode(b"PTTL", b"a") + encode(b"PTTL", b"b"))
    pair.finish()


def test_many_elements_are_those_of_the_handlers(run: Run) -> None:
    """Ranges of a list with two halves and of a sorted set with several blocks; whole hashes, in both protocols."""
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    pair = Pair(run)
    pair.feed(0, encode(b"RPUSH", b"l", *[b"%d" % i for i in range(40)]))
    pair.feed(0, encode(b"LPUSH", b"l", *[b"%d" % -i for i in range(1, 30)]))
    scores = [arg for i in range(1500) for arg in (b"%d" % rng.randrange(100), b"member %d" % i)]
    pair.feed(0, encode(b"ZADD", b"z", *scores) + encode(b"ZRANGE", b"z", b"0", b"0"))
    pair.feed(0, encode(b"HSET", b"h", *[b"%d" % (i // 2) for i in range(60)]))
    pair.turn()
    queries = [encode(b"HGETALL", key) for key in (b"h", b"nothing")]
    for _ in range(60):
        start, stop = rng.randrange(-1600, 1600), rng.randrange(-1600, 1600)
        queries.append(encode(b"ZRANGE", b"z", b"%d" % start, b"%d" % (start + rng.randrange(900))))
        queries.append(encode(b"LRANGE", rng.choice([b"l", b"nothing"]), b"%d" % (start // 20), b"%d" % (stop // 20)))
    for version in (b"2", b"3"):
        pair.feed(0, encode(b"HELLO", version))
        for query in queries:
            before = pair.quick.ran
            pair.feed(0, query)
            assert pair.quick.ran == before + 1, (seed, query)
    pair.feed(0, encode(b"ZRANGE", b"z", b"0", b"1000"))
    assert pair.quick.ran == before + 1, "so many elements are for the handler"
    pair.finish()


def test_the_table_is_that_of_the_handlers() -> None:
    """plain_run.c and plain_runs.py have one order, and what is called from there keeps what is said of it."""
    rows = re.findall(r'\{"([A-Z]+)", (\d+), (\d+), ((?:run|read|write)_\w+)\}', kit.SOURCE.read_text())
    assert [name.encode() for name, *_ in rows] == list(plain_runs.NAMES) and len(rows) == plain_runs.KINDS
    commands = Local().engine.commands
    for kind, (name, least, most, way) in enumerate(rows):
        command = commands[name.encode()]
        handled = way.startswith(("run_read", "run_write", "read_", "write_"))
        assert handled == (kind >= plain_runs.OWN), name
        assert not command.bits & (WHOLE | SERVER | BLOCKING | IMMEDIATE) and not command.subcommands, name
        assert command.arity == int(least) == int(most) or (command.arity < 0 and -command.arity <= int(least)), name
        if handled:
            every = command.last_key == -1
            assert every == way.endswith("_all") or int(most) == 2, name
            assert command.first_key == 1 and (every or command.last_key == 1) and command.find_keys is None, name
            assert bool(command.bits & WRITE) == way.startswith(("run_write", "write_")), name


def test_a_handler_that_took_long_is_in_the_slow_log(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the run, so that nothing else is counted with it."""

    def stalls(client: Client, argv: list[bytes]) -> bytes:
        began = time.perf_counter()
        while time.perf_counter() - began < 0.03:
            pass
        return b":0\r\n"

    side = Side(run)
    side.plain.handling[0][plain_runs.NAMES.index(b"STRLEN")] = stalls
    side.local("CONFIG", "SET", "slowlog-log-slower-than", 20000)
    side.feed(0, encode(b"GET", b"a") * 3 + encode(b"STRLEN", b"slow") + encode(b"GET", b"b"))
    assert side.ran == 5
    slow: Any = side.local("SLOWLOG", "GET")
    took = [entry[2] for entry in slow if entry[3] == [b"STRLEN", b"slow"]]
    assert len(took) == 1 and took[0] >= 30_000, slow


def test_a_handler_that_fails_answers_as_ever(run: Run) -> None:
    """An error of its own, or a fault, which is one of this command only."""

    def fails(client: Client, argv: list[bytes]) -> bytes:
        raise ValueError("a fault")

    side = Side(run)
    side.plain.handling[0][plain_runs.NAMES.index(b"STRLEN")] = fails
    side.feed(0, encode(b"SET", b"a", b"x") + encode(b"STRLEN", b"a") + encode(b"DECR", b"a") + encode(b"GET", b"a"))
    assert side.ran == 4
    side.turn()
    transport = side.connections[0].transport
    assert isinstance(transport, Ends)
    ok, fault, refused, text = transport.data.split(b"\r\n", 3)
    assert (ok, refused, text) == (b"+OK", b"-ERR value is not an integer or out of range", b"$1\r\nx\r\n")
    assert fault.startswith(b"-ERR internal error in 'strlen'")
    assert dict(side.engine.statistics.errors) == {"ERR": 2}


def test_a_command_that_may_outlast_the_lease_is_asked_for_first(run: Run) -> None:
    side = Side(run)
    asked: list[float] = []
    side.local("SADD", "s", "a")
    side.engine.on_long = lambda seconds, waits: asked.append(seconds)
    side.engine.lease_until = time.perf_counter() + 100
    side.feed(0, encode(b"SMEMBERS", b"s"))
    assert side.ran == 1 and not asked
    side.engine.lease_until = time.perf_counter() - 1
    side.feed(0, encode(b"SMEMBERS", b"s"))
    assert side.ran == 1 and len(asked) == 1


def test_settings_that_want_every_command_get_every_command(run: Run) -> None:
    side = Side(run)
    side.local("CONFIG", "SET", "slowlog-log-slower-than", 0)
    side.feed(0, encode(b"GET", b"a") * 3)
    assert side.ran == 0
    slow: Any = side.local("SLOWLOG", "GET")
    assert [entry[3] for entry in slow].count([b"GET", b"a"]) == 3


def test_whoever_hears_of_changes_hears_of_these_too(run: Run) -> None:
    side = Side(run)
    side.local("CONFIG", "SET", "notify-keyspace-events", "KA")
    hears = side.local.connect()
    side.local.raw("PSUBSCRIBE", "__keyspace@0__:*", client=hears)
    side.feed(0, encode(b"SET", b"a", b"1") * 2)
    assert side.ran == 0
    side.local.turn()
    hears.flush()
    assert side.local.take(hears).count(b"__keyspace@0__:a") == 2


def test_a_run_that_took_long_is_an_event_and_a_command_that_did_is_in_the_slow_log(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stalls(*args: Any) -> int:
        end = run(*args)
        began = time.perf_counter()
        while time.perf_counter() - began < 0.03:
            pass
        return end

    side = Side(stalls)
    side.local("CONFIG", "SET", "slowlog-log-slower-than", 20000, "latency-monitor-threshold", 20)
    side.feed(0, encode(b"GET", b"a") * 3)
    assert side.ran == 3
    side.feed(0, encode(b"GET", b"one"))
    slow: Any = side.local("SLOWLOG", "GET")
    found = [entry[3] for entry in slow]
    assert [b"GET", b"one"] in found and [b"GET", b"a"] not in found
    latest: Any = side.local("LATENCY", "LATEST")
    assert b"fast-command" in [entry[0] for entry in latest]


def test_every_command_of_a_failed_batch_gets_an_answer(run: Run) -> None:
    """Replies of a run are held one by one: an outcome that is unknown is unknown for each."""
    side = Side(run)
    side.feed(0, encode(b"SET", b"a", b"1") * 5 + encode(b"GET", b"b") * 4 + encode(b"INCR", b"n") * 2)
    side.feed(0, encode(b"SADD", b"s", b"m") * 2 + encode(b"STRLEN", b"a") + encode(b"APPEND", b"a", b"1"))
    assert side.ran == 15
    client, transport = side.connections[0].client, side.connections[0].transport
    assert client is not None and isinstance(transport, Ends)
    client.fail_held("UNKNOWN for now")
    client.flush()
    assert transport.data == b"-UNKNOWN for now\r\n" * 15
    assert client.owed == 0


def test_batches_end_where_they_do_without(run: Run) -> None:
    pair = Pair(run)
    for _ in range(3):
        pair.feed(0, b"".join([encode(b"SET", b"key:%d" % i, b"v" * 900) for i in range(400)]))
    assert len(pair.quick.local.log) >= 3
    pair.finish()


def test_a_long_pipeline_takes_turns(run: Run) -> None:
    """No client runs more than its share before the others, and nothing is lost or answered twice."""
    side = Side(run)
    side.feed(0, encode(b"INCR", b"n") * 2000)
    assert side.ran <= 1024 and side.connections[0].unread
    side.feed(1, encode(b"GET", b"other"))
    side.turn()
    transport = side.connections[0].transport
    assert isinstance(transport, Ends)
    assert transport.data == b"".join([b":%d\r\n" % n for n in range(1, 2001)])
    assert transport.reads
    side.local.check_replay()


def test_memory_stays_where_it_was(run: Run) -> None:
    fields = kit.Fields(run)
    stream = b"".join([random_command(random.Random(seed)) for seed in range(300)])
    sizes = []
    for _ in range(6):
        for seed in range(20):
            fields.feed(random.Random(seed), stream)
            fields.feed(random.Random(seed), spoiled(random.Random(seed), stream))
            del fields.chunks[:]
        sizes.append(sys.getallocatedblocks())
    assert max(sizes[2:]) - min(sizes[2:]) < 50, sizes


def test_wrong_arguments_are_refused(run: Run) -> None:
    kinds = plain_runs.KINDS
    handling = ([None] * kinds, bytes(kinds), None, None, None)
    good: list[Any] = [b"", 0, 1, {}, {}, 0, [], b"", False, [], [0] * plain_runs.TALLIES, None, set(), [], 1, False]
    good += [None, None, (bytes(kinds), (b"",)), handling]
    assert run(*good) == 0
    for place in (0, 3, 4, 6, 7, 9, 10, 11, 12, 13, 18, 19):
        with pytest.raises(TypeError):
            run(*[object() if i == place else value for i, value in enumerate(good)])
    wrong: list[Any] = [([], *handling[1:]), (handling[0], b"", *handling[2:]), handling[:-1]]
    odd: list[tuple[int, Any]] = [(1, 1), (1, -1), (1, "0"), (6, [0]), (10, []), (5, 1 << 70)]
    odd += [
        (18, each) for each in ((), (bytes(kinds), [b""]), (bytes(kinds), (b"", 1)), (b"", ()), (bytes(kinds), (), 1))
    ]
    for place, value in odd + [(19, each) for each in wrong]:
        with pytest.raises((TypeError, ValueError, OverflowError)):
            run(*[value if i == place else each for i, each in enumerate(good)])
    with pytest.raises(TypeError):
        run(*good[:-1])


def _sanitizer(name: str) -> str:
    """Where the compiler keeps a sanitizer's library; empty when it has none."""
    compiler = kit.compiler()
    if compiler is None or sys.platform != "linux":
        return ""
    found = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return found.stdout.strip() if os.path.isabs(found.stdout.strip()) else ""


@pytest.mark.slow
def test_sanitizers_find_nothing(tmp_path: Path) -> None:
    libraries = [_sanitizer("libasan.so"), _sanitizer("libubsan.so")]
    if not all(libraries):
        pytest.skip("no compiler with AddressSanitizer and UndefinedBehaviorSanitizer")
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
    made = kit.build(tmp_path, *flags)
    seed = random.randrange(1 << 32)
    env = {
        **os.environ,
        "LD_PRELOAD": " ".join(libraries),
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0",
    }
    command = [sys.executable, "-m", "tests.kit.plain_run", str(made), str(seed), "10000"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout == "done\n", (seed, done.stderr[-4000:])
