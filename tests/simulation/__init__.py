"""A deterministic simulation: the real nodes on a virtual clock, with simulated disks, network and accidents.

One seed decides everything; the same seed runs the same way, to the byte. What runs is the real code: server, engine,
commit, follower, lease, claim, recovery, quorum files. What is simulated is what the operating system gives it::

    world      the virtual clock, the one event loop, processes that crash and pause and have clocks of their own
    threads    threads as greenlets: one runs at a time, and only a wait lets another one run
    disk       a zone's file system, which knows what was synced; a power cut drops or tears the rest, a
               failed sync leaves it shown; older copies and changed times
    ops        the calls of one process to one zone: they take time, fail, hang, arrive late
    network    connections between processes, with delays and partitions
    broker     a Kafka partition of three copies, of brokers before 3.7 or after
    cluster    the machines, the servers on them, one to five zones, and what all readers of the log saw
    nemesis    the accidents
    clients    who writes and reads, and what they were told
    linearizable  is there an order of one key's operations that explains all that clients were told?
    checks     what must hold, for every seed
    mutations  the protocol broken on purpose, rule by rule, to see that the checks or a plain test notice

`make simulate SEEDS=1000` runs many seeds, `make simulate SEED=7` one of them again.
"""
