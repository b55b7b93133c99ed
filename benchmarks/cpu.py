"""`python -m benchmarks.cpu [PART …]`: processor time a command, of eventdb on three zones beside Redis `always`.

Where other work keeps the cores busy a rate means nothing, and this still does: the time of all threads of the server,
user and system, as the scheduler counts it (Linux only). redis-benchmark sends a fixed number of commands to both in
turn; the medians count. A PART picks the rows whose name has it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.elements import fill_types
from benchmarks.load import fill, redis_benchmark
from benchmarks.rows import KEYS, LoadRow
from benchmarks.servers import EventDB, Redis, Server
from benchmarks.surface import Pipe, prepare

ROUNDS: Final = 3
REQUESTS: Final = 48_000
R: Final = "__rand_int__"

# Name, clients, pipeline, highest random number, command. Keys are those of `elements.py`, `surface.py` and `fill`.
LINES: Final = f"""
GET P=1|50|1|100000|GET key:{R}
SET P=1|50|1|100000|SET key:{R} value
GET c=500|500|16|100000|GET key:{R}
GET|50|16|100000|GET key:{R}
SET|50|16|100000|SET key:{R} value
SET EX|50|16|100000|SET timed:{R} value EX 1000
INCR|50|16|100000|INCR counter:{R}
MGET 10|50|16|100000|MGET {" ".join([f"key:{R}"] * 10)}
EXPIRE|50|16|100000|EXPIRE timed:{R} 1000
HGET 1M|50|16|1000000|HGET hash:1000000 f:{R}
HMGET two of 10|50|16|10|HMGET hash:10 f:{R} f:{R}
HGETALL 10|50|16|10|HGETALL hash:10
HSET 1k|50|16|1000|HSET hash:1000 f:{R} value
HSET large|50|16|100000|HSET hash field:{R} value
SADD|50|16|100000|SADD myset element:{R}
SISMEMBER 1k|50|16|1000|SISMEMBER set:1000 m:{R}
SMEMBERS 10|50|16|10|SMEMBERS set:10
SRANDMEMBER 10|50|16|10|SRANDMEMBER set:10
SINTER 20k|5|1|10|SINTER set:a set:b
LPUSH|50|16|10|LPUSH mylist value
RPOP|50|16|10|RPOP mylist
LSET 1k|50|16|1000|LSET list:1000 5 value
LINDEX 200k|50|16|10|LINDEX list 100000
LLEN|50|16|10|LLEN list:10
LRANGE 10|50|16|10|LRANGE list:1000 0 9
ZADD 1k|50|16|1000|ZADD zset:1000 {R} m:{R}
ZADD|50|16|100000|ZADD board {R} m:{R}
ZINCRBY|50|16|100000|ZINCRBY board 3 m:{R}
ZSCORE 1k|50|16|1000|ZSCORE zset:1000 m:{R}
ZRANK 1k|50|16|1000|ZRANK zset:1000 m:{R}
ZRANK 100k|50|16|100000|ZRANK board m:{R}
ZRANK 1M|50|16|1000000|ZRANK zset:1000000 m:{R}
ZREVRANK 1M|50|16|1000000|ZREVRANK zset:1000000 m:{R}
ZCOUNT 1k|50|16|1000|ZCOUNT zset:1000 250 500
ZCOUNT 1M|50|16|1000000|ZCOUNT zset:1000000 250000 500000
ZRANGE 10, 1M|50|16|10|ZRANGE zset:1000000 0 9
ZREVRANGE 10, 1k|50|16|10|ZREVRANGE zset:1000 0 9
ZRANGEBYSCORE 10, 1k|50|16|10|ZRANGEBYSCORE zset:1000 500 +inf LIMIT 0 10
XADD|50|16|10|XADD stream * field value
XADD MAXLEN|50|16|10|XADD stream:1000 MAXLEN ~ 1000 * f value
XLEN|50|16|10|XLEN stream:1000
XRANGE 10|50|16|10|XRANGE stream:1000 - + COUNT 10
SETBIT|50|16|100000|SETBIT bits:{R} 1000 1
SETBIT one key|50|16|10|SETBIT bitmap 1000 1
GETBIT one key|50|16|10|GETBIT bitmap 1000
PFADD|50|16|100000|PFADD hll {R}
GEOSEARCH 100k|50|16|10|GEOSEARCH points FROMLONLAT 10 45 BYRADIUS 20 km COUNT 10
EVAL GET|50|16|100000|EVAL return_redis.call('GET',KEYS[1]) 1 key:{R}
EVALSHA SET|50|16|100000|EVALSHA SHA 1 key:{R} value
PUBLISH|50|16|10|PUBLISH nobody message
"""
SCRIPTS: Final = {"return_redis.call('GET',KEYS[1])": "return redis.call('GET',KEYS[1])"}
SET_SCRIPT: Final = "return redis.call('SET',KEYS[1],ARGV[1])"


def rows(parts: list[str], sha: str) -> list[LoadRow]:
    found: list[LoadRow] = []
    for line in LINES.strip().splitlines():
        name, clients, pipeline, numbers, text = line.split("|")
        if not parts or any(part.lower() in name.lower() for part in parts):
            words = tuple(sha if word == "SHA" else SCRIPTS.get(word, word) for word in text.split())
            found.append(LoadRow("cpu", name, int(clients), int(pipeline), None, words, int(numbers)))
    return found


def cpu_ns(server: Server) -> int:
    """What all threads of the server have run."""
    assert server.process is not None
    tasks = Path(f"/proc/{server.process.pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def measure(server: Server, row: LoadRow) -> float:
    """Microseconds a command."""
    requests = REQUESTS if row.pipeline > 1 or row.clients > 5 else REQUESTS // 100
    before = cpu_ns(server)
    redis_benchmark(server, row, requests)
    return (cpu_ns(server) - before) / requests / 1000


def load_script(server: Server) -> str:
    (sha,) = Pipe(server)([["SCRIPT", "LOAD", SET_SCRIPT]])
    assert isinstance(sha, bytes)
    return sha.decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("parts", nargs="*")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        servers: list[Server] = [Redis(Path(folder, "redis"), always=True), EventDB(Path(folder, "eventdb"))]
        try:
            for server in servers:
                server.start()
                fill(server, KEYS)
                fill_types(server)
                prepare(server)
                sha = load_script(server)
            board = LoadRow("cpu", "board", 50, 16, None, ("ZADD", "board", R, f"m:{R}"), KEYS)
            for server in servers:
                redis_benchmark(server, board, KEYS)
            print(f"{'row':24} {'Redis':>8} {'eventdb':>8} {'ratio':>6}   µs of processor time a command")
            for row in rows(asked.parts, sha):
                taken = [[measure(server, row) for server in servers] for _ in range(asked.rounds)]
                redis, own = (statistics.median(side) for side in zip(*taken, strict=True))
                print(f"{row.test:24} {redis:8.2f} {own:8.2f} {redis / own:6.2f}", flush=True)
        finally:
            for server in servers:
                server.kill()


if __name__ == "__main__":
    main()
