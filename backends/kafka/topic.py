"""The topic: made as the log needs it, refused when it is weaker, and how large a batch it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from aiokafka import errors
from aiokafka.protocol.admin import ApiVersionRequest, CreateTopicsRequest, DescribeConfigsRequest

from eventdb.backends.kafka.link import Cluster, Link, NoAnswer, describe, persist
from eventdb.backends.log import BadLogURL, Unavailable

COPIES: Final = 3
IN_SYNC_MIN: Final = 2
CREATE_S: Final = 20.0
PATIENCE_S: Final = 10.0
_TOPIC_RESOURCE: Final = 2  # in DescribeConfigs

# What must hold, and what a topic of ours is made with.
NEEDED: Final = {
    "min.insync.replicas": f"{IN_SYNC_MIN}",
    "unclean.leader.election.enable": "false",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "cleanup.policy": "delete",
}
# The rest is convenience. Bodies are compressed before Kafka sees them; a node's clock must not decide whether its
# record is taken (a broker refuses a CreateTime too far ahead); a batch may hold many records.
ALSO: Final = {
    "compression.type": "producer",
    "message.timestamp.type": "LogAppendTime",
    "max.message.bytes": f"{8 << 20}",
}
# The oldest broker: from 3.7 on a record is shown only while min.insync.replicas copies have it (KAFKA-15583). Before,
# a replica may be shown a record that one broker alone has, and that is lost with its disk. Which release a broker is
# cannot be asked; 3.7 was the first to take version 10 of Produce (KIP-951).
OLDEST: Final = "3.7"
_PRODUCE: Final = 0
_PRODUCE_MIN: Final = 10
LIMIT: Final = "max.message.bytes"
LIMIT_MIN: Final = 16 << 10  # a smaller one would leave next to nothing of a frame


class WeakTopic(BadLogURL):
    """The topic does not keep what an acknowledgement promises; the text names each setting and how to mend it."""


@dataclass(frozen=True, slots=True)
class Topic:
    cluster: Cluster
    settings: dict[str, str]

    @property
    def batch_bytes_max(self) -> int:
        return int(self.settings[LIMIT])


async def look(link: Link) -> Topic | None:
    """The topic as it is, or None when there is none. Raises Unavailable."""
    what = f"topic {link.address.topic} cannot be looked at"
    cluster = await persist(link.cluster, PATIENCE_S, what)
    if cluster.partitions == 0:
        return None
    return Topic(cluster, await persist(lambda: _settings(link, cluster), PATIENCE_S, what))


async def _settings(link: Link, cluster: Cluster) -> dict[str, str]:
    names = [*NEEDED, LIMIT]
    request = DescribeConfigsRequest([(_TOPIC_RESOURCE, link.address.topic, names)])
    answer = await _ask_any(link, cluster, request)
    ((code, text, _type, _name, entries),) = answer.resources
    if code:
        raise NoAnswer(text or describe(errors.for_code(code)()))
    return {entry[0]: entry[1] or "" for entry in entries}


async def _ask_any(link: Link, cluster: Cluster, request: object) -> Any:
    reason = NoAnswer("no broker is known")
    for broker in cluster.brokers.values():
        try:
            return await link.ask((broker.host, broker.port), request)
        except NoAnswer as error:
            reason = error
    raise reason


async def ensure(link: Link) -> Topic:
    """The topic, made if there was none. Raises WeakTopic when it may not be written to; Unavailable.

    Of the brokers the leader is looked at, and no other: a claim does not wait for a broker that is lost.
    """
    topic = await look(link)
    if topic is None:
        what = f"topic {link.address.topic} cannot be made"
        await persist(lambda: _create(link), CREATE_S, what)
        topic = await persist(lambda: _made(link), CREATE_S, what)
    found = faults(link, topic)
    if topic.cluster.partitions != 1 or int(topic.settings[LIMIT]) < LIMIT_MIN:
        raise WeakTopic(f"topic {link.address.topic} cannot hold a log: {'; '.join(found)}")
    found += await persist(lambda: old_leader(link), PATIENCE_S, f"topic {link.address.topic} cannot be looked at")
    if found and not link.address.allow_weak:
        raise WeakTopic(
            f"topic {link.address.topic} is weaker than the log needs: {'; '.join(found)}"
            " (or, if what is acknowledged may be lost: ?allow-weak=1)"
        )
    return topic


async def _create(link: Link) -> None:
    name = link.address.topic
    cluster = await link.cluster()
    copies = COPIES
    if len(cluster.brokers) < COPIES:
        if not link.address.allow_weak:
            raise WeakTopic(
                f"topic {name} needs {COPIES} brokers for its {COPIES} copies, and {len(cluster.brokers)} can be seen"
                " (or, if what is acknowledged may be lost: ?allow-weak=1)"
            )
        copies = len(cluster.brokers)
    settings = {**NEEDED, **ALSO, "min.insync.replicas": f"{min(IN_SYNC_MIN, copies)}"}
    # Kafka itself spreads the copies over the racks when its brokers have them.
    request = CreateTopicsRequest([(name, 1, copies, [], list(settings.items()))], int(CREATE_S * 1000), False)
    controller = cluster.brokers.get(cluster.controller)
    if controller is None:
        raise NoAnswer("no controller is known")
    answer = await link.ask((controller.host, controller.port), request, CREATE_S)
    ((_topic, code, text),) = answer.topic_errors
    if code in (0, errors.TopicAlreadyExistsError.errno):
        return
    error = errors.for_code(code)
    if error.retriable or error is errors.InvalidReplicationFactorError:  # brokers that are registered may be down
        raise NoAnswer(text or describe(error()))
    raise Unavailable(f"topic {name} cannot be made: {text or describe(error())}")


async def _made(link: Link) -> Topic:
    cluster = await link.cluster()
    if cluster.partitions == 0 or cluster.leader < 0 or set(cluster.in_sync) != set(cluster.replicas):
        raise NoAnswer("it is not there yet")
    return Topic(cluster, await _settings(link, cluster))


def faults(link: Link, topic: Topic) -> list[str]:
    """What is weaker than it must be, each with the way to mend it. Empty for a topic that keeps the promise."""
    name = link.address.topic
    cluster = topic.cluster
    found: list[str] = []
    if cluster.partitions != 1:
        found.append(f"it has {cluster.partitions} partitions and needs exactly 1: make a new topic")
    if len(cluster.replicas) < COPIES:
        found.append(
            f"replication factor is {len(cluster.replicas)} and must be {COPIES} or more: "
            f"kafka-reassign-partitions --topics-to-move-json-file … (topic {name})"
        )
    racks = [cluster.brokers[number].rack for number in cluster.replicas if number in cluster.brokers]
    named = [rack for rack in racks if rack]
    if len(set(named)) < len(named):
        found.append(
            f"copies share a rack ({', '.join(sorted(racks))}) and must be in different ones: kafka-reassign-partitions"
        )
    for setting, needed in NEEDED.items():
        value = topic.settings.get(setting, "")
        enough = value.isdigit() and int(value) >= IN_SYNC_MIN if setting == "min.insync.replicas" else value == needed
        if not enough:
            found.append(f"{setting} is {value or 'unknown'} and must be {needed}: {_mend(name, setting, needed)}")
    if int(topic.settings[LIMIT]) < LIMIT_MIN:
        found.append(f"{LIMIT} is {topic.settings[LIMIT]} and must be {LIMIT_MIN} or more: "
                     f"{_mend(name, LIMIT, ALSO[LIMIT])}")  # fmt: skip
    return found


async def old_leader(link: Link) -> list[str]:
    """What is wrong with the release of the partition's leader; as `faults`. Raises NoAnswer, Unavailable."""
    answer = await link.ask_leader(ApiVersionRequest())
    return _too_old(link.leader_id, answer)


async def old_brokers(link: Link, cluster: Cluster) -> list[str]:
    """What is wrong with the releases of the brokers that have a copy and answer. Raises Unavailable."""
    found: list[str] = []
    for number in cluster.replicas:
        broker = cluster.brokers.get(number)
        if broker is not None:
            try:
                found += _too_old(number, await link.ask((broker.host, broker.port), ApiVersionRequest()))
            except NoAnswer:
                continue
    return found


def _too_old(broker: int, answer: Any) -> list[str]:
    newest = max((high for key, _low, high in answer.api_versions if key == _PRODUCE), default=0)
    if newest >= _PRODUCE_MIN:
        return []
    return [
        f"broker {broker} is older than Kafka {OLDEST} (it takes version {newest} of Produce, not {_PRODUCE_MIN}), so"
        f" it may show a record that one copy alone has: upgrade every broker to {OLDEST} or later"
    ]


def _mend(topic: str, setting: str, value: str) -> str:
    return f"kafka-configs --alter --entity-type topics --entity-name {topic} --add-config {setting}={value}"
