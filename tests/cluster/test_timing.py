"""The constants of a failover hold together, and compose.yaml gives its brokers those of `eventdb dev kafka`."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from eventdb.backends.kafka import producer, writer
from eventdb.backends.kafka.broker_timing import BROKER_TIMING
from eventdb.cluster import timing
from eventdb.cluster.lease import silence_s
from eventdb.cluster.timing import (
    ALONE_S,
    ANNOUNCE_ANSWER_S,
    ANNOUNCE_S,
    BEATS,
    CRON_S,
    EFFORT_S_MAX,
    FOLLOW_RETRY_S,
    GIVE_BACK_S,
    HAND_OVER_MS,
    LAG_MS_MAX,
    LATE_S,
    LEASE_MS,
    LEASE_MS_MAX,
    LEASE_MS_MIN,
    LONE_LEASE_MS,
    MARGIN,
    MEMBER_S,
    PRIMARY_LOOK_S,
    SPREAD_S,
    STATE_S,
    TURN_S,
)

ROOT = Path(__file__).resolve().parents[2]


def test_a_takeover_waits_longer_than_any_lease_lasts() -> None:
    for lease_ms in (LEASE_MS_MIN, LEASE_MS, LONE_LEASE_MS, LEASE_MS_MAX):
        assert lease_ms / 1000 * (1 + MARGIN) <= silence_s(lease_ms)
        # Two clocks that differ by the margin: what is a lease to the fast one is over for the slow one.
        assert lease_ms / 1000 < silence_s(lease_ms) / (1 + MARGIN / 2)
    assert LEASE_MS_MIN <= LEASE_MS <= LONE_LEASE_MS <= LEASE_MS_MAX
    assert BEATS >= 3, "one lost heartbeat must not end a lease"


def test_a_lease_can_outlast_the_longest_command() -> None:
    assert EFFORT_S_MAX * 1000 + LONE_LEASE_MS < LEASE_MS_MAX


def test_followers_take_turns_that_do_not_meet() -> None:
    assert SPREAD_S < TURN_S / 2
    assert LEASE_MS / 1000 / BEATS <= TURN_S, "a claimant has made its first statement when the next one's turn comes"
    assert FOLLOW_RETRY_S <= LEASE_MS / 1000


def test_a_follower_is_late_before_it_is_gone_and_after_two_announcements() -> None:
    assert PRIMARY_LOOK_S < ANNOUNCE_S
    assert 2 * ANNOUNCE_S < LATE_S < 3 * ANNOUNCE_S
    assert LATE_S < ANNOUNCE_ANSWER_S < MEMBER_S < STATE_S
    assert LATE_S * 1000 >= LAG_MS_MAX


def test_a_node_looks_at_its_clock_often_enough() -> None:
    assert CRON_S <= LEASE_MS / 1000 / BEATS
    assert ALONE_S < LONE_LEASE_MS / 1000


def test_a_hand_over_and_a_stop_outlast_a_lease() -> None:
    assert LONE_LEASE_MS / 1000 < GIVE_BACK_S < HAND_OVER_MS / 1000 < LEASE_MS_MAX / 1000


def broker_ms(name: str) -> int:
    return int(BROKER_TIMING[name])


def test_a_dead_broker_is_replaced_before_an_append_is_given_up() -> None:
    session = broker_ms("broker.session.timeout.ms")
    assert broker_ms("broker.heartbeat.interval.ms") * 5 <= session
    assert broker_ms("controller.quorum.fetch.timeout.ms") >= 2 * 500  # they ask with a wait that cannot be set
    assert broker_ms("controller.quorum.election.backoff.max.ms") < broker_ms("controller.quorum.election.timeout.ms")
    assert broker_ms("controller.quorum.election.timeout.ms") < session
    assert broker_ms("replica.fetch.wait.max.ms") < broker_ms("replica.lag.time.max.ms")
    assert broker_ms("replica.lag.time.max.ms") <= producer.ACKS_MS < producer.SEND_S * 1000
    assert session > writer.SUSPECT_S * 1000


def test_compose_gives_its_brokers_the_same_times() -> None:
    text = (ROOT / "compose.yaml").read_text()
    stated = dict(re.findall(r'^\s+KAFKA_([A-Z_]+): "(\d+)"', text, re.M))
    wanted = {name.replace(".", "_").upper(): value for name, value in BROKER_TIMING.items()}
    assert {name: stated.get(name) for name in wanted} == wanted
    assert {name for name in stated if name.endswith("_MS")} == set(wanted), "a time that only compose.yaml has"


def test_times_say_their_unit() -> None:
    """Seconds end with _S, milliseconds with _MS; nothing else that is a time of a failover stands elsewhere."""
    for name in vars(timing):
        if name.isupper() and name not in ("BEATS", "MARGIN", "CLAIM_ATTEMPTS"):
            assert re.search(r"_(S|MS)(_MIN|_MAX)?$", name), name
    for path in [path for room in ("eventdb", "backends", "replay") for path in (ROOT / room).rglob("*.py")]:
        for node in ast.parse(path.read_text()).body:
            target = node.target if isinstance(node, ast.AnnAssign) else None
            if isinstance(target, ast.Name):
                assert not re.search(r"_(SECONDS|SECS?|MILLIS|MSEC)(_MIN|_MAX)?$", target.id), f"{path}: {target.id}"
