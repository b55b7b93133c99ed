"""Kafka: a log in one topic of one partition, whose copies are the zones.

Durable means: acknowledged by all copies in sync, of which there are at least two (`acks=all`, min.insync.replicas).
Kafka has no compare-and-append; the records carry it. Which module knows what::

    address   the URL and its options        history   which records count: the rules, and why they hold
    link      asking brokers, deadlines      page      what stands in the partition
    topic     making it, refusing a weak one reader    history from any position on
    producer  sending one batch              claim     becoming the writer
    writer    one epoch's writer             info, verify
    log       the contract over all of it

What holds, for three copies in three racks:

* With one broker gone nothing stops for longer than Kafka takes to choose another leader. With two gone appends stay
  pending, and go on when one of them is back. Nothing acknowledged is lost.
* Kafka answers from the memory of its brokers and writes to disk later. All racks losing their power in the same
  moment can lose what was acknowledged in the seconds before, unless the brokers sync each batch (`flush.messages=1`
  on the topic).
* A broker that was replaced as the leader and does not know it yet shows an older end of the log, never another
  history.
"""

from __future__ import annotations

from eventdb.backends.kafka.log import KafkaLog, open_kafka
from eventdb.backends.kafka.topic import WeakTopic
from eventdb.backends.kafka.writer import KafkaWriter

__all__ = ["KafkaLog", "KafkaWriter", "WeakTopic", "open_kafka"]
