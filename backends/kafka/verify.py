"""`verify`: read everything that is kept, checksum by checksum, and say what is not as it should be."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from eventdb.backends.kafka.history import History, Replay
from eventdb.backends.kafka.link import Link
from eventdb.backends.kafka.page import Cursor
from eventdb.backends.kafka.reader import PATIENCE_S, span
from eventdb.backends.kafka.topic import faults, look, old_brokers
from eventdb.backends.log import Corrupt
from eventdb.backends.record import BadFrame
from eventdb.backends.seal import Keyring


async def findings(link: Link, keys: Keyring | None = None) -> AsyncGenerator[str, None]:
    """One line per finding: a weak setting of the topic, a copy that is not in sync, a record that is damaged.

    Records are read from the leader; a copy in sync is compared with it by Kafka alone. Raises Unavailable.
    """
    topic = await look(link)
    if topic is None:
        return
    if not link.address.allow_weak:
        for fault in (*faults(link, topic), *await old_brokers(link, topic.cluster)):
            yield f"topic {link.address.topic}: {fault}"
    for number in topic.cluster.replicas:
        if number not in topic.cluster.in_sync:
            yield f"broker {number}: its copy of topic {link.address.topic} is not in sync"
    first, end = await span(link)
    replay = Replay(History(known=first == 0, trusting=True), keys)
    cursor = Cursor(link, first, patience_s=PATIENCE_S, ahead=True)
    try:
        while cursor.position < end:
            for entry in await cursor.next():
                try:
                    replay.feed(entry.frame, entry.position)
                except BadFrame as error:
                    yield f"topic {link.address.topic}: position {entry.position}: {error}"
                    return  # what follows cannot be judged
    except Corrupt as error:
        yield f"{error}"
    finally:
        await cursor.close()
