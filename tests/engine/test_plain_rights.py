"""plain_run.c and users that may not do everything: it runs what their rules surely allow, and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.engine.test_plain_runs import NOW, Pair, Run, Side, Step, _one_clock, examples, run, step  # noqa: F401
from tests.kit.plain_run import encode

RULES = (
    [b"+@all", b"~*", b"-flushall"],
    [b"+@read", b"~*"],
    [b"+@all", b"~a*", b"~d*", b"allchannels"],
    [b"+@all", b"%R~*", b"%RW~e*"],
    [b"+@all", b"~a?c*", b"~", b"~[ab]*", b"~\\a*"],
    [b"-@all", b"+get", b"+mget", b"+set", b"~a*", b"(+@all ~b*)"],
    [b"+@all", b"-set", b"+type", b"~*"],
    [b"-@all"],
)


@examples(60)
@given(st.sampled_from(RULES), st.lists(step, min_size=1, max_size=8))
def test_users_may_what_they_may(run: Run, rules: list[bytes], steps: list[Step]) -> None:  # noqa: F811
    """The same is refused, and written down as refused."""
    pair = Pair(run)
    for side in (pair.quick, pair.slow):
        permissions = side.engine.permissions
        made = permissions.changed(b"some", [b"reset", b"on", b"nopass", *rules])
        for connection in side.connections[1:]:
            assert connection.client is not None
            permissions.become(connection.client, made)
    for number, commands, _, turns, ms in steps:
        pair.feed(number, b"".join(commands))
        if turns:
            pair.turn()
        NOW[0] += ms / 1000
    pair.finish()
    quick, slow = (
        [(each.reason, each.what, each.count) for each in side.engine.permissions.log]
        for side in (pair.quick, pair.slow)
    )
    assert quick == slow


def test_a_restricted_user_has_runs_too(run: Run) -> None:  # noqa: F811
    side = Side(run)
    client, permissions = side.connections[0].client, side.engine.permissions
    assert client is not None
    permissions.become(client, permissions.changed(b"some", [b"on", b"nopass", b"+@all", b"-keys", b"~app:*"]))
    side.feed(0, encode(b"SET", b"app:1", b"x") + encode(b"GET", b"app:1") + encode(b"MGET", b"app:1", b"app:2"))
    assert side.ran == 3
    side.feed(0, encode(b"GET", b"app") + encode(b"MGET", b"app:1", b"ap"))
    assert side.ran == 3 and len(permissions.log) == 2
