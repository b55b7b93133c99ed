"""How long things take around a failover: every constant, so that one page shows what depends on what.

Times are in seconds (`_S`), or in milliseconds (`_MS`) where a setting or the log states them so. Their relations are
asserted in tests/cluster/test_timing.py. The times that brokers are given: backends/kafka/broker_timing.py.
"""

from __future__ import annotations

from typing import Final

# -- the lease (cluster/lease.py)

LEASE_MS: Final = 500  # with other candidates about; `--lease-ms`
LEASE_MS_MIN: Final = 50
LEASE_MS_MAX: Final = 60_000
# Of a primary that knows no other candidate: nobody waits to take over, so it may append less often.
LONE_LEASE_MS: Final = 2_000
BEATS: Final = 5  # heartbeats in a lease: all but one may be late or lost before it lapses
MARGIN: Final = 0.1  # of a lease: by how much the rates of two clocks may differ
PUSH_S: Final = 0.005  # out of every 10 ms of a long script at most, for a log that is reached through the loop
EFFORT_S_MAX: Final = 50.0  # the longest that a command is said to take, so that there is a lease which outlasts it
# Where `primary-serve-stale-data` is set: how long after its lease has lapsed a lone primary that hears neither yes nor
# no from its log answers reads of clean keys again. They may be old: that this process cannot reach its log does not
# mean that nobody can.
ALONE_S: Final = 0.3

# -- taking over (node/succession.py)

TURN_S: Final = 0.12  # between two followers' turns: long enough for a claim to be seen
SPREAD_S: Final = 0.02  # of chance on top, for followers that nobody has listed
CLAIM_ATTEMPTS: Final = 5
FOLLOW_RETRY_S: Final = 0.5  # between two tries to read a log of which no zone answers

# -- the list of followers (node/announcing.py, node/tenure.py)

ANNOUNCE_S: Final = 0.5  # between two announcements of a follower
ANNOUNCE_ANSWER_S: Final = 2.0  # for connecting, and for each reply
PRIMARY_LOOK_S: Final = 0.05  # between two looks for the primary
LATE_S: Final = 1.2  # a follower that has missed two announcements may be stopped: it is late, and is handed nothing
MEMBER_S: Final = 3.0  # a follower that has not announced itself for this long is gone
STATE_S: Final = 5.0  # the whole statement is repeated this often, for a reader that starts in the middle
LAG_MS_MAX: Final = 1000  # a follower with a larger lag is not handed the log: it would have to apply all of it first

# -- handing over and stopping (node/node.py)

HAND_OVER_MS: Final = 5_000  # a hand-over that takes longer is given up
GIVE_BACK_S: Final = 3.0  # for a stop to give the lease back; after that it lapses by itself
CRON_S: Final = 0.1  # between two ticks of a node
