"""How fast a lost broker is replaced: the properties that Kafka brokers under eventdb are given.

They stand here once: `eventdb dev kafka` starts brokers with them, and a test compares compose.yaml.
"""

from __future__ import annotations

from typing import Final

# How fast a lost broker is replaced. Kafka's defaults are made for clusters of hundreds of brokers and need some 10 s.
# * A broker that missed its heartbeats for session.timeout is fenced: its partitions get new leaders. The heartbeats
#   come five times in it, so that a pause of the garbage collector is not taken for a death.
# * If the lost broker was the active controller too, the others first have to notice: they wait fetch.timeout for its
#   answers. They ask with a wait of 500 ms that cannot be set, so less than twice that would make false alarms.
# * election.timeout and election.backoff.max: how long a candidate waits for votes, and how long after a tie.
# * Only then the session of the lost broker starts to run out, at the new controller.
BROKER_TIMING: Final[dict[str, str]] = {
    "broker.session.timeout.ms": "1000",
    "broker.heartbeat.interval.ms": "200",
    "controller.quorum.fetch.timeout.ms": "1000",
    "controller.quorum.election.timeout.ms": "300",
    "controller.quorum.election.backoff.max.ms": "100",
    "controller.quorum.request.timeout.ms": "1000",
    # How long a broker waits for a controller that was stopped, before it asks which broker is the controller now: for
    # changes of the in-sync set, and for new producer ids. By default 30 s.
    "controller.socket.timeout.ms": "1000",
    # A follower that stopped fetching holds up every append until it is out of the in-sync set.
    "replica.lag.time.max.ms": "1500",
    "replica.fetch.wait.max.ms": "200",
    "replica.socket.timeout.ms": "1500",
    "replica.fetch.backoff.ms": "100",
}
