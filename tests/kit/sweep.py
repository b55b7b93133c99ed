"""Arguments that a command was not made for, by chance: right ones from COMMAND DOCS' description, then spoilt."""

from __future__ import annotations

import json
import random
from functools import cache
from typing import Any, Final

from tests.conftest import ROOT

KEYS: Final = [b"s", b"n", b"l", b"h", b"set", b"iset", b"z", b"x", b"hll", b"geo", b"none", b"other", b""]
SEED: Final = [
    b"SET s hello", b"SET n 10", b"RPUSH l a b c 1 2 a", b"HSET h f v n 5 d 1.5", b"SADD set a b c",
    b"SADD iset 1 2 3",
    b"ZADD z 1 a 2 b 3 c 3 d", b"XADD x 1-1 f v", b"XADD x 2-0 f w n 1", b"XGROUP CREATE x g 0",
    b"XREADGROUP GROUP g c COUNT 1 STREAMS x >", b"PFADD hll a b c",
    b"GEOADD geo 13.361389 38.115556 p 15.087269 37.502669 q",
]  # fmt: skip
STRINGS: Final = [
    b"a", b"b", b"f", b"n", b"p", b"q", b"g", b"c", b"v", b"", b"hello", b"1", b"-1", b"1-1", b"2", b"0-0", b"-", b"+",
    b"(1",
    b"(a", b"[a", b"[c", b"(", b"[", b"$", b">", b"inf", b"-inf", b"nan", b"u8", b"i64", b"u64", b"i65", b"#1", b"m",
    b"km", b"x" * 70, b"9223372036854775807", b"1.5", b" 1", b"1 ", b"0x10", b"1e3", b"\x00", b"\xff", b"=", b"~",
]  # fmt: skip
INTEGERS: Final = [
    b"0", b"1", b"-1", b"2", b"3", b"-2", b"5", b"10", b"100", b"-100", b"9223372036854775807", b"-9223372036854775808",
    b"9223372036854775808", b"4294967296", b"", b"x", b"1.0", b"+1", b"01", b"-0", b" 1",
]  # fmt: skip
DOUBLES: Final = [
    b"0", b"1", b"-1.5", b"3", b"1e10", b"inf", b"-inf", b"+inf", b"nan", b"1e400", b"", b"x", b" 1", b"0x10", b"-0",
    b"0.1", b"13.4", b"38.1", b"200", b"1e-320",
]  # fmt: skip
TIMES: Final = [
    b"0", b"-1", b"100000", b"9999999999", b"9999999999999", b"9223372036854775807", b"-9223372036854775808", b"x",
    b"1.5", b"",
]  # fmt: skip
PATTERNS: Final = [b"*", b"a*", b"?", b"[a-", b"\\", b"h->*", b"nosort", b"#", b"*->f"]
OF_TIME: Final = frozenset(("seconds", "milliseconds", "timeout", "ttl", "unix-time-seconds", "unix-time-milliseconds"))


@cache
def described() -> dict[str, list[dict[str, Any]]]:
    text = (ROOT / "eventdb" / "commands" / "server" / "arguments.json").read_text()
    return {name: docs.get("arguments", []) for name, docs in json.loads(text).items()}


class Sweep:
    """Calls of one command. `timed`: small numbers may be times in it, and keys would end at different moments."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.rng = random.Random(f"{name} {seed}")
        self.timed = any(word in name for word in ("expire", "getex", "setex", "restore")) or name == "set"
        self.picks = "rand" in name

    def call(self) -> list[bytes]:
        rng = self.rng
        args: list[bytes] = []
        for argument in described().get(self.name, []):
            self._add(args, argument)
        for _ in range(rng.choice((0, 0, 0, 1, 1, 2))):
            self._spoil(args)
        return [*self.name.upper().encode().split(b"|"), *args]

    def _integer(self) -> bytes:
        pool = TIMES if self.timed else INTEGERS
        chosen = self.rng.choice(pool)
        return b"-5" if self.picks and chosen[:1] == b"-" and len(chosen) > 4 else chosen

    def _string(self) -> bytes:
        while True:
            chosen = self.rng.choice(STRINGS)
            if not self.timed or not chosen.isdigit():
                return chosen

    def _add(self, args: list[bytes], argument: dict[str, Any]) -> None:
        rng = self.rng
        flags = argument.get("flags", [])
        if "optional" in flags and rng.random() < 0.6:
            return
        token = argument.get("token", "").encode()
        count = rng.choice((1, 1, 2, 3)) if "multiple" in flags else 1
        kind, name = argument["type"], argument["name"]
        if count > 1 and kind == "key" and args and args[-1] == b"numkeys":
            args[-1] = b"%d" % count
        for i in range(count):
            if token and (i == 0 or "multiple_token" in flags):
                args.append(token if rng.random() < 0.8 else token.lower())
            if kind == "oneof":
                self._add(args, {**rng.choice(argument["arguments"]), "flags": []})
            elif kind == "block":
                for inner in argument["arguments"]:
                    self._add(args, inner)
            elif kind == "key":
                if args and args[-1] == b"numkeys":
                    args[-1] = b"1" if rng.random() < 0.8 else self._integer()
                args.append(rng.choice(KEYS))
            elif kind != "pure-token":
                args.append(self._value(kind, name))

    def _value(self, kind: str, name: str) -> bytes:
        rng = self.rng
        if name == "numkeys":
            return b"numkeys"
        if name in OF_TIME or kind == "unix-time":
            return rng.choice(TIMES)
        if kind == "integer":
            return self._integer()
        if kind == "double":
            return rng.choice(DOUBLES)
        return rng.choice(PATTERNS) if kind == "pattern" else self._string()

    def _spoil(self, args: list[bytes]) -> None:
        rng = self.rng
        what = rng.randrange(5)
        if what == 0 or not args:
            args.insert(rng.randint(0, len(args)), self._string())
            return
        at = rng.randrange(len(args))
        if what == 1:
            del args[at]
        elif what == 2:
            args[at] = self._string()
        elif what == 3:
            args.insert(at, args[at])
        else:
            other = rng.randrange(len(args))
            args[at], args[other] = args[other], args[at]
