"""Chaos: real nodes and real redis-py clients while processes, storage and network fail; then the history is judged.

    proxy     a TCP proxy before a node or a broker, which a test cuts by who is at the other end
    cluster   three `eventdb serve` processes, each behind a proxy
    stage     what the log lies on: quorum files or Kafka brokers, and what can be done to them
    faults    what can be done to nodes and to their network
    clients   redis-py clients that write, read, and remember what they were told
    checks    what must hold of all they were told, and of the log
    campaign  seeded rounds of faults under load

`tests/simulation` does the same with virtual time, many more seeds and harder faults; here nothing is simulated.
"""
