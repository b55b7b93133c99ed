"""What hostile bytes are fed to, and how they are made: one target for each reader of bytes from outside.

A target has a corpus, small inputs that make sense, and `feed`, which may end in the errors that a caller expects and
in no other. Inputs are corpus entries with bytes flipped, cut out, doubled, joined with others, or with a number that
lies. What once broke a target is kept in tests/golden/fuzz/NAME/ and fed first, every time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import ssl
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import google_crc32c

from eventdb.backends import open_log
from eventdb.backends.assembler import Assembler
from eventdb.backends.discreet import discreet
from eventdb.backends.kafka.address import parse as parse_address
from eventdb.backends.keyrings import Contents, Entry, contents_of
from eventdb.backends.log import BadLogURL, Log, LogError
from eventdb.backends.record import BadFrame, decode
from eventdb.backends.seal import BadKeys, CannotOpen, open_stream
from eventdb.cluster.lease import Statement
from eventdb.cluster.topology import member_of
from eventdb.engine.config_file import ConfigFileError, directives, take_over
from eventdb.engine.permissions import catalogue
from eventdb.engine.settings import Config
from eventdb.history.appendonly import import_appended
from eventdb.history.importing import import_file
from eventdb.history.view import View
from eventdb.protocol.requests import RequestParser, SharedReader
from eventdb.rdb.codes import BadRdb, Unkept
from eventdb.rdb.crc64 import crc64
from eventdb.replay.manifest import BadManifest
from eventdb.replay.manifest import decode as decode_manifest
from eventdb.security.acl import AclError, User
from eventdb.security.iam import Iam, Refused, make, parse
from eventdb.security.policies import AccessKey, read_keys
from eventdb.security.policies import BadKeys as BadPolicies
from eventdb.security.tls import Tls
from tests.conftest import ROOT
from tests.kit.certificates import Authority
from tests.kit.harness import Local
from tests.kit.keyring import key_of, ring
from tests.kit.wire import encode

GOLDEN: Final = ROOT / "tests" / "golden"
NUMBERS: Final = (
    b"0", b"-1", b"1", b"2147483647", b"4294967296", b"9223372036854775807", b"-9223372036854775808", b"1e999", b"nan",
)  # fmt: skip
LYING: Final = (b"\x81" + b"\xff" * 8, b"\x80\x7f\xff\xff\xff", b"\xff" * 4, b"\x00" * 8, struct.pack("<q", 1 << 40))


class Target:
    """One reader. `words` may be put anywhere: what its grammar is made of."""

    words: tuple[bytes, ...] = ()

    def corpus(self) -> list[bytes]:
        raise NotImplementedError

    def feed(self, data: bytes) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing more is fed."""

    def kept(self, name: str) -> list[bytes]:
        return [path.read_bytes() for path in sorted((GOLDEN / "fuzz" / name).glob("*"))]


def mutated(rng: random.Random, corpus: list[bytes], words: tuple[bytes, ...]) -> bytes:
    data = bytearray(rng.choice(corpus))
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at, size = rng.randrange(len(data) + 1), rng.choice((1, 2, 4, 12, 60))
        kind = rng.randrange(8)
        if kind == 0 and at < len(data):
            data[at] = rng.randrange(256)
        elif kind == 1 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del data[at : at + size]
        elif kind == 3:
            data[at:at] = data[at : at + size] * rng.choice((1, 1, 2, 30))
        elif kind == 4:
            data[at : at + size * rng.randrange(2)] = rng.choice(NUMBERS if rng.random() < 0.6 else LYING)
        elif kind == 5 and words:
            data[at : at + size * rng.randrange(2)] = rng.choice(words)
        elif kind == 6:
            other = rng.choice(corpus)
            begin = rng.randrange(len(other) + 1)
            data[at:] = other[begin : begin + 4000]
        else:
            del data[at:]
    return bytes(data[: 1 << 16])


class Requests(Target):
    """The RESP parser: the same requests, and the same failure, however the bytes are cut."""

    words = (
        b"\r\n",
        b"*",
        b"$",
        b"*1\r\n",
        b"$-1\r\n",
        b"*1048577\r\n",
        b"$536870913\r\n",
        b'"',
        b"'",
        b"\x00",
        b":1\r\n",
    )

    def corpus(self) -> list[bytes]:
        return [
            encode("SET", "k", "v" * 40) + encode("GET", "k"), b"PING\r\nSET a 'b c'\r\n\r\n*0\r\n", encode("MSET",
            *"abcdef"),
            b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n", b'set "a\\x00b" \'c\\\'\'\r\n',
        ]  # fmt: skip

    def feed(self, data: bytes) -> None:
        at = len(data) // 3
        whole, cut = self._parsed([data]), self._parsed([data[:at], data[at : 2 * at], data[2 * at :]])
        assert whole[0] == cut[0], (whole, cut)
        assert bool(whole[1]) == bool(cut[1]), (whole, cut)

    def _parsed(self, chunks: list[bytes]) -> tuple[list[list[bytes]], str]:
        parser = RequestParser(SharedReader())
        parser.authenticated = True
        found: list[list[bytes]] = []
        for chunk in chunks:
            if chunk and not parser.failure:
                found += parser.feed(chunk)
        return found, parser.failure


class Frames(Target):
    """Record frames and what is joined of them: clear, compressed, sealed, with right checksums."""

    def corpus(self) -> list[bytes]:
        found = [path.read_bytes()[:6000] for path in sorted((GOLDEN / "format-2" / "frames").glob("*"))]
        found += [path.read_bytes()[:6000] for path in sorted((GOLDEN / "format-1" / "frames").glob("*"))]
        found += [
            path.read_bytes()[:6000] for path in sorted((GOLDEN / "sealed" / "quorum").rglob("*")) if path.is_file()
        ]
        return [each for each in found if each]

    def feed(self, data: bytes) -> None:
        if len(data) > 8 and len(data) % 2:
            data = data[:4] + int(google_crc32c.value(data[8:])).to_bytes(4, "little") + data[8:]
        at, assembler = 0, Assembler(ring(1, 2))
        with contextlib.suppress(BadFrame, LogError):
            for position in range(100):
                frame = decode(data, at)
                if frame is None:
                    break
                assembler.feed(frame, position)
                at += frame.size


class Payloads(Target):
    """RESTORE of what DUMP makes, with a right checksum; what is taken in is replayed the same."""

    def __init__(self) -> None:
        self.local = Local()

    def corpus(self) -> list[bytes]:
        local = Local()
        for line in (
            "RPUSH l a b 1 2 300 70000", "SADD s a b", "SADD i 1 2 3", "ZADD z 1 a 2.5 b", "HSET h f v n 1",
            "SET k v", "SET n 12",
            "XADD x 1-1 f v", "XADD x 2-1 f w g 1", "XGROUP CREATE x g 0", "XREADGROUP GROUP g c STREAMS x >",
            "PFADD p a b c",
        ):  # fmt: skip
            local.raw(*line.split())
        local.raw("HPEXPIRE", "h", 10**9, "FIELDS", 1, "f")
        local.raw("ZADD", "big", *[each for n in range(130) for each in (n, f"m{n}")])
        keys = ("l", "s", "i", "z", "h", "k", "n", "x", "p", "big")
        return [bytes(found)[:-8] for key in keys if isinstance(found := local("DUMP", key), bytes)]

    def feed(self, data: bytes) -> None:
        events = len(self.local.log)
        reply = self.local.raw("RESTORE", "k", 0, data + crc64(data).to_bytes(8, "little"), "REPLACE")
        assert b"internal error" not in reply, reply
        if len(self.local.log) > events:
            for call in (
                ("DUMP", "k"),
                ("DEBUG", "OBJECT", "k"),
                ("SORT", "k"),
                ("XINFO", "STREAM", "k", "FULL"),
                ("GET", "k"),
            ):
                assert b"internal error" not in self.local.raw(*call), call
            self.local.check_replay()
            self.local = Local()


class Rules(Target):
    """ACL SETUSER's rules: an error, or a user whose description makes the same one."""

    words = (
        b" +@all", b" -@all", b" +get", b" (", b")", b" ~", b" %RW~a*", b" &c", b" >p", b" #", b" allkeys",
        b" resetkeys", b" reset",
        b" +config|get", b" -config|set", b" +select|0", b" on", b" nopass", b" iam", b" clearselectors", b"|", b"*",
        b"\xff", b"\0",
    )  # fmt: skip

    def __init__(self) -> None:
        self.catalogue = catalogue()

    def corpus(self) -> list[bytes]:
        return [
            b"on >p ~a* %R~r* &news* +get +set",
            b"off nopass ~* +@all -@dangerous",
            b"+get ~a (+set ~b) (%R~c* +@all)",
            b"on nopass +config|get +select|0 -@all +object|encoding",
            b"reset on #" + b"a" * 64 + b" allchannels &*",
        ]

    def feed(self, data: bytes) -> None:
        user = User(b"u")
        try:
            user.apply_all(data.split(b" "), self.catalogue)
        except AclError:
            return
        again = User(b"u")
        again.apply_all(user.describe().split(), self.catalogue)
        assert again.describe() == user.describe(), (user.describe(), again.describe())
        for one, other in zip(user.selectors, again.selectors, strict=True):
            assert {name: set(args) for name, args in one.first_args.items()} == {
                name: set(args) for name, args in other.first_args.items()
            }, data
            assert (one.commands, one.keys, one.channels) == (
                other.commands, other.keys, other.channels,
            ), data  # fmt: skip
            assert (one.all_keys, one.all_channels, one.all_commands) == (
                other.all_keys, other.all_channels, other.all_commands,
            ), data  # fmt: skip


class Tokens(Target):
    """IAM tokens: refused with a reason, and taken only when nothing that is signed was changed."""

    words = (
        b"&X-Amz-Expires=900",
        b"&User=alice",
        b"%00",
        b"%",
        b"&",
        b"=",
        b"X-Amz-Date=",
        b"Action=connect",
        b"?",
        b"https://",
    )

    def __init__(self) -> None:
        self.now = 1_790_000_000.0
        arn = "arn:aws:memorydb:eu-central-1:000000000000:"
        may = {"Effect": "Allow", "Action": "memorydb:connect", "Resource": [f"{arn}cluster/shop", f"{arn}user/alice"]}
        entry = {"access_key_id": "AKIDALICE", "secret_access_key": "tHeSeCrEt" * 5, "policies": [{"Statement": [may]}]}
        self.key = read_keys(json.dumps(entry))["AKIDALICE"]
        self.token = make("shop", "alice", self.key, region="eu-central-1", now_s=self.now)
        self.signed = parse(self.token)
        self.iam = Iam("shop", self, "eu-central-1")
        self.iam.verify("alice", self.token, self.now)

    def find(self, key_id: str) -> AccessKey | None:
        return self.key if key_id == self.key.key_id else None

    def corpus(self) -> list[bytes]:
        return [self.token.encode(), b"http://" + self.token.encode()]

    def feed(self, data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")
        try:
            self.iam.verify("alice", text, self.now)
        except Refused as refused:
            said = str(refused)
        else:
            said = ""
        assert self.key.secret not in said, said
        if said:
            return
        found = parse(text)
        assert (found.host, found.query) == (self.signed.host, self.signed.query), text


class Scripts(Target):
    """Hostile Lua: a reply or an error in time, the memory bounded, and the log replays to the same."""

    words = (
        b"while true do ", b" end ", b"pcall(", b"redis.call('SET',KEYS[1],'x')", b"redis.call('GET',KEYS[1])",
        b"string.rep('x',1e9)",
        b"{}", b"setmetatable(_G,nil)", b"..", b"#", b"error({})", b"error(nil)", b"coroutine.wrap(", b"function() ",
        b"local t={} ",
        b"t[#t+1]=t ", b"loadstring(", b"cjson.decode(", b"cmsgpack.unpack(", b"struct.unpack('>I8',",
        b"redis.error_reply(", b"-1",
        b"getfenv()", b"rawset(_G,'x',1)", b"string.dump(", b"table.concat(", b"('x'):rep(1e8)", b"bit.lshift(",
        b"redis.sha1hex(",
        b"redis.setresp(3) ", b"for i=1,1e9 do ", b"return ", b"string.format('%99999d',1)",
        b"('a'):find(('a?'):rep(99)..('a'):rep(99))",
    )  # fmt: skip

    def __init__(self) -> None:
        self.local = Local()
        self.local("CONFIG", "SET", "script-time-limit", 100)
        self.local("CONFIG", "SET", "busy-reply-threshold", 20)
        self.runs = 0

    def corpus(self) -> list[bytes]:
        lines = (ROOT / "tests" / "scripting" / "scripts.txt").read_bytes().split(b"\n")
        return [line.replace(b"\\n", b"\n") for line in lines if line and not line.startswith((b"#", b"["))]

    def feed(self, data: bytes) -> None:
        began = time.process_time()
        reply = self.local.raw("EVAL", data, 1, "k", "v")
        self.local.raw("RESET")
        assert b"internal error" not in reply, reply
        assert reply and reply[-2:] == b"\r\n"
        assert time.process_time() - began < 10, "it hangs"
        self.runs += 1
        if self.runs % 100 == 0:
            self.local.check_replay()
            self.local.log.clear()
            self.__init__()  # type: ignore[misc]


class Texts(Target):
    """The small formats: settings, URLs, keyrings, manifests, policies, announcements."""

    words = (
        b'{"', b'":', b"null", b"[]", b"true", b"\n",
        b'"', b"'", b" ", b"include /x\n", b"requirepass ", b"://", b"@", b"?", b"=", b"%ff",
        b"\\x", b"\xff", b"\\ud800", b"[" * 2000, b'{"a":' * 2000, b"9" * 5000,
    )  # fmt: skip

    def corpus(self) -> list[bytes]:
        (manifest,) = (GOLDEN / "snapshot").glob("*.json")
        arn = "arn:aws:memorydb:eu-central-1:0:cluster/shop"
        may = {"Effect": "Allow", "Action": ["memorydb:*"], "Resource": arn}
        keyring = Contents(1, {1: Entry("2026-01-31T14:05:00Z", key_of(1))})
        return [
            b"timeout 1\nrequirepass 'a b'\nsave 60 1 30 2\nbind 127.0.0.1 ::1\n", keyring.encode(),
            manifest.read_bytes(),
            json.dumps({"access_key_id": "A", "secret_access_key": "S", "policies": [{"Statement": [may]}]}).encode(),
            b'{"name": "a", "address": "h:1", "candidate": true, "offset": 5, "lag_ms": 1, "x": [1, 2.5, null]}',
            b'{"name": "a", "address": "h:1", "lease_ms": 500, "members": [{"name": "b", "address": "h:2"}]}',
            b"kafka://b:9092,c:1/topic?security-protocol=SASL_SSL&sasl-username=u&sasl-password=p&ssl-cafile=/x",
        ]  # fmt: skip

    def feed(self, data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")
        if "include" not in text.lower():
            with contextlib.suppress(ConfigFileError):
                take_over(directives("x", text, 0), Config())
        with contextlib.suppress(BadLogURL):
            parse_address(text.replace("options=", "option="))
        with contextlib.suppress(BadManifest):
            decode_manifest("00000000000000000199-1-1a219a17acf8325c.json", data)
        with contextlib.suppress(BadPolicies):
            read_keys(text)
        with contextlib.suppress(BadKeys):
            contents_of(f"env:{self._held(text)}")
        with contextlib.suppress(ValueError, RecursionError):
            member_of(json.loads(text))
        with contextlib.suppress(ValueError, TypeError, AttributeError, RecursionError):  # as its caller does
            Statement.decode(data)
        with contextlib.suppress(CannotOpen, BadKeys):
            list(open_stream([data], ring(1)))
        assert discreet(discreet(text)) == discreet(text)

    def _held(self, text: str) -> str:
        os.environ["EVENTDB_FUZZED_KEYS"] = text.replace("\0", "")
        return "EVENTDB_FUZZED_KEYS"


class Files(Target):
    """Files of Redis (RDB): a state that is replayed the same, or a named error. Every other checksum is made right."""

    name = "x.rdb"

    words = tuple(bytes([code]) for code in (*range(24), *range(240, 256)))

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        self.path = Path(self.folder.name) / self.name

    def corpus(self) -> list[bytes]:
        payloads = Payloads().corpus()
        names = [b"\x01%c" % (97 + number) for number in range(len(payloads))]
        made = [b"REDIS0010" + each[:1] + name + each[1:-2] + b"\xff" + bytes(8) for name, each in zip(names, payloads)]
        return [*made, (GOLDEN / "rdb" / "ours.rdb").read_bytes()]

    def feed(self, data: bytes) -> None:
        if len(data) > 17 and len(data) % 2:
            data = data[:-8] + crc64(data[:-8]).to_bytes(8, "little")
        self.path.write_bytes(data)
        self.loop.run_until_complete(self._fed())

    def close(self) -> None:
        self.loop.close()
        self.folder.cleanup()

    async def _fed(self) -> None:
        log = open_log("memory:")
        try:
            await self._import(log)
        except (BadRdb, Unkept, LogError):
            pass
        finally:
            await log.close()

    async def _import(self, log: Log) -> None:
        with self.path.open("rb") as file:
            await import_file(file, log, View, skip=True)


class Appended(Files):
    """Append-only files: commands, with a file of Redis before them or not."""

    name = "x.aof"
    words = (
        b"*1\r\n", b"*3\r\n$3\r\nSET\r\n", b"$-1\r\n", b"*2147483647\r\n", b"$536870912\r\n", b"#TS:1700000000\r\n",
        b"#TS:-1\r\n", b"\r\n", encode("MULTI"), encode("EXEC"), encode("SELECT", 15), encode("SELECT", 99),
        encode("EVAL", "return redis.call('SET','a','b')", 0), encode("FLUSHALL"), encode("BLPOP", "l", 0),
    )  # fmt: skip

    def corpus(self) -> list[bytes]:
        block = encode("MULTI") + encode("INCR", "a") + encode("RPUSH", "l", 1, 2) + encode("EXEC")
        plain = encode("SELECT", 0) + encode("SET", "a", 1) + block + encode("SET", "b", 2, "PXAT", 1000)
        stream = (
            encode("XADD", "x", "1-1", "f", "v") + encode("XGROUP", "CREATE", "x", "g", 0) + encode("ZADD", "z", 1, "a")
        )
        rdb = b"REDIS0010\x00\x01r\x01v\xff" + bytes(8)
        return [plain, plain * 3, rdb + plain, stream, b"#TS:1700000000\r\n" + plain + b"#TS:1700000001\r\n" + stream]

    async def _import(self, log: Log) -> None:
        await import_appended([self.path], log, View, name="x", skip=True)


class Handshakes(Target):
    """TLS, on the server's own contexts: as the first bytes of a peer, in the midst of a handshake, and after one."""

    words = (
        b"\x16\x03\x01",
        b"\x16\x03\x03",
        b"\x15\x03\x03\x00\x02\x02\x00",
        b"\x14\x03\x03\x00\x01\x01",
        b"\x17\x03\x03\xff\xff",
    )

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        authority = Authority(Path(self.folder.name))
        place = authority.sign("server")
        made = Tls()
        for name, value in authority.settings(6390, place, tls_auth_clients="optional").items():
            made.put(name.removeprefix("tls-").replace("-", "_"), int(value) if name == "tls-port" else value)
        self.context = made.server_context()
        self.clients = [authority.client(place), authority.client()]
        self.clients[1].maximum_version = ssl.TLSVersion.TLSv1_2
        self.fed = 0

    def close(self) -> None:
        self.folder.cleanup()

    def corpus(self) -> list[bytes]:
        return [flight for context in self.clients for flight in self._pair(context)[1]]

    def feed(self, data: bytes) -> None:
        self.fed += 1
        kind = self.fed % 20
        if kind > 3:  # the cheap ones are many
            server = Side(self.context.wrap_bio, server_side=True)
        else:
            server = self._pair(self.clients[kind % 2], self.fed % 3 + 1)[0]
        for at in range(0, len(data), 1 + len(data) // 3):
            server.take(data[at : at + 1 + len(data) // 3])
        assert server.out.pending < 1 << 20

    def _pair(self, context: ssl.SSLContext, flights_max: int = 9) -> tuple[Side, list[bytes]]:
        """The server after so many flights of a client, and those."""
        server = Side(self.context.wrap_bio, server_side=True)
        client = Side(context.wrap_bio, server_side=False, server_hostname="127.0.0.1")
        flights: list[bytes] = []
        client.take(b"")
        while len(flights) < flights_max and (flight := client.out.read()):
            flights.append(flight)
            server.take(flight)
            client.take(server.out.read())
        return server, flights


class Side:
    """One end of a TLS connection, in memory."""

    def __init__(self, wrap: Callable[..., ssl.SSLObject], **options: object) -> None:
        self.into, self.out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = wrap(self.into, self.out, **options)
        self.shaken = False

    def take(self, data: bytes) -> None:
        self.into.write(data)
        with contextlib.suppress(ssl.SSLError):
            if not self.shaken:
                self.object.do_handshake()
                self.shaken = True
            while self.object.read(1 << 16):
                pass


TARGETS: Final[dict[str, Callable[[], Target]]] = {
    "requests": Requests, "frames": Frames, "payloads": Payloads, "rules": Rules, "tokens": Tokens, "scripts": Scripts,
    "texts": Texts, "files": Files, "appended": Appended, "handshakes": Handshakes,
}  # fmt: skip


def run(name: str, seed: int, seconds: float) -> int:
    """Feed a target for so long; returns how many inputs it took. An AssertionError tells the input that broke it."""
    target, rng = TARGETS[name](), random.Random(seed)
    corpus = target.corpus()
    assert corpus
    count, until = 0, time.monotonic() + seconds
    first = target.kept(name) + corpus
    try:
        while count < len(first) or time.monotonic() < until:
            data = first[count] if count < len(first) else mutated(rng, corpus, target.words)
            count += 1
            try:
                target.feed(data)
            except Exception as error:
                raise AssertionError(f"{name}, seed {seed}, input {count}: {data!r}") from error
    finally:
        target.close()
    return count
