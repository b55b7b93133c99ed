"""Lists: replies, the events they emit, and ListValue against a plain Python list."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventdb.keyspace.types.list import ListValue
from eventdb.keyspace.value import Limits
from tests.kit.harness import Local


@pytest.fixture
def local() -> Local:
    return Local()


def rows(*lines: str) -> list[list[bytes]]:
    return [line.encode().split() for line in lines]


def run(local: Local, *lines: str) -> list[object]:
    return [local(*line.split()) for line in lines]


def test_a_push_is_one_event_under_its_canonical_name(local: Local) -> None:
    assert run(local, "lpush l a b", "Rpush l c", "LPUSHX l d", "rpushx l e f", "lpushx none x") == [2, 3, 4, 6, 0]
    assert local.events() == rows("LPUSH l a b", "RPUSH l c", "LPUSH l d", "RPUSH l e f")
    assert local("LRANGE", "l", 0, -1) == [b"d", b"b", b"a", b"c", b"e", b"f"]
    local.check_replay()


def test_a_pop_says_how_many_it_took_and_the_last_one_removes_the_key(local: Local) -> None:
    run(local, "RPUSH l a b c d e", "PEXPIREAT l 9999999999999")
    assert run(local, "LPOP l", "RPOP l 2", "LPOP l 0", "LPOP l 99", "LPOP l", "LPOP l 1") == [
        b"a", [b"e", b"d"], [], [b"b", b"c"], None, None,
    ]  # fmt: skip
    assert local.events()[2:] == rows("LPOP l", "RPOP l 2", "LPOP l 2")
    assert not local.engine.store.keyspace.dbs[0].values and not local.engine.store.keyspace.dbs[0].expires
    local.check_replay()


def test_conditions_and_indexes_are_resolved_before_they_are_logged(local: Local) -> None:
    run(local, "RPUSH l a b c b d", "LSET l -1 z", "linsert l Before b x", "LREM l -1 b", "LTRIM l -4 100")
    assert local.events()[1:] == rows("LSET l 4 z", "LINSERT l BEFORE b x", "LREM l -1 b", "LTRIM l 1 4")
    assert local("LRANGE", "l", 0, -1) == [b"x", b"b", b"c", b"z"]
    run(local, "LTRIM l 5 9")
    assert local.events()[-1] == [b"DEL", b"l"]
    local.check_replay()


def test_nothing_is_logged_when_nothing_changes(local: Local) -> None:
    run(local, "RPUSH l a", "RPUSH m a b")
    before = local.events()
    run(
        local, "LINSERT l BEFORE no x", "LREM l 0 no", "LTRIM l 0 -1", "LPOP l 0", "LMOVE l l LEFT RIGHT",
        "LMOVE m m LEFT LEFT", "LPUSHX none a", "LPOP none", "LMPOP 1 none LEFT", "RPOPLPUSH none l", "LRANGE l 0 -1",
    )  # fmt: skip
    assert local.events() == before


def test_a_move_is_one_event_on_both_lists(local: Local) -> None:
    run(local, "RPUSH a 1 2 3", "LMOVE a b left right", "RPOPLPUSH a b", "LMOVE a a RIGHT LEFT", "RPOPLPUSH a b")
    assert local.events()[1:] == rows("LMOVE a b LEFT RIGHT", "LMOVE a b RIGHT LEFT", "LMOVE a b RIGHT LEFT")
    assert local("LRANGE", "b", 0, -1) == [b"2", b"3", b"1"]
    assert local("EXISTS", "a") == 0
    local.check_replay()


def test_a_rotation_of_one_list_keeps_it(local: Local) -> None:
    run(local, "RPUSH a 1 2 3", "RPOPLPUSH a a")
    assert local("LRANGE", "a", 0, -1) == [b"3", b"1", b"2"]
    assert local.events()[-1] == [b"LMOVE", b"a", b"a", b"RIGHT", b"LEFT"]
    local.check_replay()


def test_lmpop_takes_from_the_first_list_that_is_there(local: Local) -> None:
    run(local, "RPUSH b 1 2 3")
    assert local("LMPOP", 2, "a", "b", "right", "COUNT", 2) == [b"b", [b"3", b"2"]]
    assert local.events()[-1] == [b"RPOP", b"b", b"2"]


def test_an_expired_list_is_deleted_by_an_event_before_a_write_makes_a_new_one(local: Local) -> None:
    run(local, "RPUSH l a", "PEXPIREAT l 1700000000100")
    local.engine.store.now_ms += 1000
    assert run(local, "LLEN l", "LRANGE l 0 -1", "RPUSH l b") == [0, [], 1]
    assert local.events()[2:] == rows("DEL l", "RPUSH l b")
    local.check_replay()


def test_the_digest_depends_on_the_order_and_not_on_how_it_came_about() -> None:
    a, b = Local(), Local()
    run(a, "RPUSH l 1 2 3")
    run(b, "LPUSH l 2 1", "RPUSH l 3")
    assert a.engine.store.keyspace.digest() == b.engine.store.keyspace.digest()
    run(b, "LMOVE l l LEFT RIGHT")
    assert a.engine.store.keyspace.digest() != b.engine.store.keyspace.digest()


def test_a_copy_is_independent(local: Local) -> None:
    run(local, "RPUSH l 1 2", "COPY l m", "LPUSH l 0", "RPOP m")
    assert local("LRANGE", "l", 0, -1) == [b"0", b"1", b"2"]
    assert local("LRANGE", "m", 0, -1) == [b"1"]
    local.check_replay()


# -- ListValue beside a Python list

ELEMENT = st.integers(0, 5).map(lambda n: b"%d" % n)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["left", "right"]), st.lists(ELEMENT, min_size=1, max_size=80)),
        st.tuples(st.sampled_from(["pop_left", "pop_right", "drop_left", "drop_right"]), st.integers(1, 60)),
        st.tuples(st.sampled_from(["insert", "put"]), st.integers(0, 200)),
        st.tuples(st.just("remove"), st.integers(-9, 9)),
    ),
    max_size=40,
)


def change(value: ListValue, model: list[bytes], name: str, argument: list[bytes] | int) -> None:
    """One change to both; what does not fit is made to."""
    if isinstance(argument, list):
        if name == "left":
            value.front += argument
            model[:0] = argument[::-1]
        else:
            value.back += argument
            model += argument
    elif name == "insert":
        at = argument % (len(model) + 1)
        value.insert(at, b"new")
        model.insert(at, b"new")
    elif name == "remove":
        value.remove(b"1", argument)
        places = [i for i, element in enumerate(model) if element == b"1"]
        gone = places if argument == 0 else places[:argument] if argument > 0 else places[argument:]
        model[:] = [element for i, element in enumerate(model) if i not in gone]
    elif model and name == "put":
        value.put(argument % len(model), b"put")
        model[argument % len(model)] = b"put"
    elif name.startswith("drop"):
        count = min(argument, len(model))
        getattr(value, name)(count)
        model[:] = model[count:] if name == "drop_left" else model[: len(model) - count]
    elif name.startswith("pop"):
        for _ in range(min(argument, len(model))):
            assert getattr(value, name)() == model.pop(0 if name == "pop_left" else -1)


@settings(max_examples=300, deadline=None, print_blob=True)
@given(STEPS, st.integers(0, 100), st.integers(0, 100))
def test_a_list_value_does_what_a_python_list_does(
    steps: list[tuple[str, list[bytes] | int]], start: int, length: int
) -> None:
    value, model = ListValue(), []  # type: ignore[var-annotated]
    for name, argument in steps:
        change(value, model, name, argument)
        assert value.slice(0, value.size()) == model
    stop = min(start + length, len(model))
    start = min(start, stop)
    part = model[start:stop]
    assert value.slice(start, stop) == part
    assert [value.get(i) for i in range(value.size())] == model
    for element in (b"1", b"new", b"absent"):
        first = part.index(element) + start if element in part else -1
        last = stop - 1 - part[::-1].index(element) if element in part else -1
        assert value.find(element, start, stop) == first
        assert value.find_last(element, start, stop) == last
    assert value.copy().digest() == value.digest()
    assert value.encoding(Limits()) == b"quicklist"


@pytest.mark.parametrize("left", [True, False])
def test_a_queue_of_any_length_pops_in_order(left: bool) -> None:
    value = ListValue()
    expected = [b"%d" % n for n in range(1000)]
    if left:
        value.back += expected
        assert [value.pop_left() for _ in expected] == expected
    else:
        value.front += expected
        assert [value.pop_right() for _ in expected] == expected
