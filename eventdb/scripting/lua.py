"""The interpreter of one engine: compiles scripts, runs them, and runs the commands that they call.

No Python object and no Python exception ever reaches a script: what is called from Lua takes and returns bytes, numbers
and booleans, and answers an error by a marker, which Lua raises. Nor is anything handed to Lua while its memory is
short: an allocation that fails inside Python's frames never comes back. So memory has two limits: above the soft one
nothing large is handed over; at the hard one Lua's own allocations fail, where Lua catches the error.
Sources: redis src/eval.c, script.c, script_lua.c.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from eventdb.engine.client import CLUSTERED, FOLLOWING, OUT_OF_MEMORY, Client
from eventdb.engine.command import DENY_OOM, NOSCRIPT, WRITE, Command
from eventdb.engine.gates import NO_MEMORY
from eventdb.engine.registry import find_subcommand
from eventdb.protocol.errors import ReplyError
from eventdb.scripting import libraries
from eventdb.scripting.replies import lua_value

if TYPE_CHECKING:
    from eventdb.engine.engine import Engine

SOURCES: Final = resources.files("eventdb.scripting")
SOFT_BYTES: Final = 64 << 20  # above it nothing is handed to scripts: see Lua
MEMORY_MAX: Final = 4 * SOFT_BYTES  # that all scripts of a server may hold together; then Lua's own allocations fail
LARGE: Final = 1 << 16  # bytes from which on it is asked whether a reply fits
BULK: Final = 36  # "$"
SECONDS_MAX: Final = 30.0  # then a script is stopped
FEW: Final = 200  # keys and arguments that are passed one by one; more of them as two tables
FLAGS: Final = frozenset(("no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys"))
WAITING: Final = {"xread": 1, "xreadgroup": 4}  # commands that may wait, and where their options begin
LEVELS: Final = (logging.DEBUG, logging.DEBUG, logging.INFO, logging.WARNING)
VERSION: Final = b"7.0.15"
VERSION_NUMBER: Final = 0x0007000F

logger: Final = logging.getLogger("eventdb.scripting")


class Script:
    """A compiled one."""

    def __init__(self, sha: bytes, source: bytes, chunk: Any, flags: frozenset[str]) -> None:
        self.sha = sha
        self.source = source
        self.chunk = chunk
        self.lines = source.rstrip().count(b"\n") + 1
        self.read_only = "no-writes" in flags
        self.no_cluster = "no-cluster" in flags


class _Nowhere:
    """The sink of the client that scripts run their commands as: nothing is ever sent to it."""

    def write(self, data: bytes) -> None: ...

    def resume(self) -> None: ...

    def close(self) -> None: ...


class Lua:
    """One for each engine, made when the first script comes. Raises ReplyError when lupa is not installed."""

    def __init__(self, engine: Engine) -> None:
        try:
            from lupa import lua51
        except ImportError:
            raise ReplyError("ERR scripts need the package lupa, which is not installed: pip install lupa") from None
        self.engine = engine
        self.seconds_max = SECONDS_MAX
        self.scripts: dict[bytes, Script] = {}  # by SHA-1, in hexadecimal
        self._by_source: dict[bytes, Script] = {}
        self._client = Client(engine.store, engine.turn, 0, _Nowhere())
        self._read_only = False
        self._began = 0.0
        self._stopped = False
        self._errors = (lua51.LuaError, lua51.LuaMemoryError)
        make: Any = lua51.LuaRuntime
        self._make_runtime: Callable[[], Any] = lambda: make(
            encoding=None, source_encoding="latin-1", register_eval=False, register_builtins=False,
            unpack_returned_tuples=True, max_memory=MEMORY_MAX, attribute_filter=_deny,
        )  # fmt: skip
        self._start()

    def _start(self) -> None:
        """A new interpreter, without scripts."""
        self._runtime = self._make_runtime()
        table = self._runtime.table_from
        self._table = table
        host = table({
            b"call": self._call, b"sha1hex": _sha1hex, b"setresp": self._setresp, b"resp3": lambda: self._client.resp3,
            b"log": _log, b"knows": self._knows, b"late": self._late, b"version": VERSION,
            b"version_number": VERSION_NUMBER,
        })  # fmt: skip
        made = self._file("sandbox.lua", host)
        self._load, self._run, self._run_few, add_library, wrap, raise_, *self._hook = made
        add_library(b"cjson", self._file("cjson.lua", self._runtime.eval("newproxy(false)"), raise_))
        add_library(b"cmsgpack", self._file("cmsgpack.lua", _bytes_of, _float_of, raise_))
        for name, functions in {b"bit": libraries.BIT, b"struct": STRUCT}.items():
            add_library(name, table({key.encode(): wrap(guarded(f)) for key, f in functions.items()}))
        self._arm()

    def _arm(self) -> None:
        """Let the hook look at the clock. Set from here: while a script is being stopped every line of Lua raises."""
        self._stopped = False
        sethook, look, instructions = self._hook
        sethook(look, b"", instructions)

    def _late(self) -> float | None:
        """The limit in seconds, once it has passed."""
        if time.monotonic() - self._began <= self.seconds_max:
            return None
        self._stopped = True
        return self.seconds_max

    def _file(self, name: str, *args: Any) -> Any:
        """Run one of our own files. Its functions bear the name `=eventdb` in what the interpreter tells of them."""
        source = SOURCES.joinpath(name).read_bytes()
        return self._runtime.eval("function(source, ...) return assert(loadstring(source, '=eventdb'))(...) end")(
            source, *args
        )

    def memory_bytes(self) -> int:
        """What the interpreter and all that scripts have made takes."""
        return int(self._runtime.get_memory_used() or 0)

    # -- scripts

    def load(self, source: bytes) -> Script:
        """The script of this source, compiled now or before. Raises ReplyError."""
        script = self._by_source.get(source)
        if script is not None:
            return script
        if len(source) > SOFT_BYTES // 4:
            raise ReplyError("ERR Error compiling script (new function): the script is too long")
        self._make_room()
        code, flags = shebang(source)
        chunk = self.compile(code, b"@user_script")
        if isinstance(chunk, bytes):
            raise ReplyError(f"ERR Error compiling script (new function): {chunk.decode('utf-8', 'surrogateescape')}")
        script = Script(hashlib.sha1(source).hexdigest().encode(), source, chunk, flags)
        self._by_source[source] = script
        self.scripts[script.sha] = script
        return script

    def compile(self, code: bytes, name: bytes) -> Any:
        """The chunk; bytes: why it cannot be compiled."""
        try:
            found = self._load(code, name)
        except self._errors as failure:
            return _text_of(failure)
        return found[1 if found[0] is None else 0]

    def flush(self) -> None:
        """SCRIPT FLUSH."""
        self.scripts.clear()
        self._by_source.clear()
        self._start()

    def _make_room(self) -> None:
        """Before anything is handed over: collect if need be, and where that does not help begin anew."""
        if self._used() <= SOFT_BYTES:
            return
        self._runtime.gccollect()
        if self._used() > SOFT_BYTES:
            sources = list(self._by_source)
            self.flush()
            for source in sources:
                self.load(source)

    def _used(self) -> int:
        return int(self._runtime.get_memory_used(True) or 0)

    def _fits(self, size: int) -> bool:
        """Lua can take so many bytes without an allocation that fails."""
        return size <= SOFT_BYTES and self._used() + size < MEMORY_MAX // 2

    def run(self, client: Client, script: Script, keys: list[bytes], argv: list[bytes], read_only: bool) -> bytes:
        """Run a script for this client; returns its reply. Raises ReplyError."""
        if sum(map(len, keys)) + sum(map(len, argv)) > SOFT_BYTES:
            raise ReplyError("ERR the arguments of the script are too large")
        self._make_room()
        script = self._by_source.get(script.source, script)  # compiled anew, where the interpreter is new
        self._begin(client, read_only or script.read_only)
        if script.no_cluster and client.gate & CLUSTERED:
            raise ReplyError("ERR Can not run script on cluster, 'no-cluster' flag is set.")
        if len(keys) + len(argv) <= FEW:
            return self._finish(
                script.sha, self._run_few, script.chunk, script.lines, client.resp3, len(keys), *keys, *argv
            )
        return self._finish(
            script.sha, self._run, script.chunk, script.lines, client.resp3, self._table(keys), self._table(argv)
        )

    def _begin(self, client: Client, read_only: bool) -> None:
        own = self._client
        own.db = client.db
        own.gate = client.gate & CLUSTERED
        own.readonly_mode = client.readonly_mode
        own.resp3 = False
        own.id, own.address, own.name = client.id, client.address, client.name
        self._read_only = read_only
        self._began = time.monotonic()

    def _finish(self, name: bytes, function: Any, *args: Any) -> bytes:
        store = self.engine.store
        inside = store.in_exec
        store.in_exec = True  # nothing blocks, and messages wait until the end
        try:
            found = function(*args)
        except self._errors as failure:
            raise ReplyError(f"ERR {_text_of(failure).decode('utf-8', 'surrogateescape')}") from None
        finally:
            store.in_exec = inside
            if self._stopped:
                self._arm()
        if isinstance(found, bytes):
            return found
        text = found[1]
        if len(found) > 2 and found[2] is not None:
            text += b" script: %b, on %b:%d." % (name, found[2], found[3])
        raise ReplyError(text.decode("utf-8", "surrogateescape"))

    # -- what a script calls

    def _call(self, *args: Any) -> tuple[int, Any]:
        """redis.call and redis.pcall: (0, value), (1, error) or (2, status)."""
        try:
            return self._run_command(args)
        except ReplyError as failure:
            return 1, failure.text.encode("utf-8", "surrogateescape")
        except Exception:
            logger.exception("internal error in a script's call")
            return 1, b"ERR internal error in a script's call; the server's log has the details"

    def _run_command(self, args: tuple[Any, ...]) -> tuple[int, Any]:
        if not args:
            raise ReplyError("ERR Please specify at least one argument for this redis lib call")
        argv = []
        for arg in args:
            if type(arg) is bytes:
                argv.append(arg)
            elif type(arg) is int or type(arg) is float:
                argv.append(b"%d" % arg if arg == arg // 1 and abs(arg) < 1e17 else b"%.17g" % arg)
            else:
                raise ReplyError("ERR Lua redis lib command arguments must be strings or integers")
        engine = self.engine
        command = engine.commands.get(argv[0]) or engine.commands.get(argv[0].upper())
        if command is None:
            raise ReplyError("ERR Unknown Redis command called from script")
        self._check(command, argv)
        if command.handler is None:
            found = find_subcommand(command, argv)
            if isinstance(found, str):
                raise ReplyError("ERR Unknown Redis command called from script")
            command = found
            self._check(command, argv)
        if command.name in WAITING and _waits(argv, WAITING[command.name]):
            name = argv[0].decode("utf-8", "surrogateescape")
            raise ReplyError(f"ERR {name} command is not allowed with BLOCK option from scripts")
        reply = engine.invoke(self._client, command, argv)
        if not reply:  # it waits, or answers in another way than by a reply
            engine.unblock(self._client)
            raise ReplyError("ERR This Redis command is not allowed from script")
        if len(reply) > LARGE and not self._fits(len(reply) if reply[0] == BULK else 8 * len(reply)):
            raise ReplyError("ERR not enough memory")
        return lua_value(reply, self._table)

    def _check(self, command: Command, argv: list[bytes]) -> None:
        """Raises ReplyError when a script may not run the command."""
        n, arity = len(argv), command.arity
        if n != arity if arity >= 0 else n < -arity:
            raise ReplyError("ERR Wrong number of args calling Redis command from script")
        if command.bits & NOSCRIPT:
            raise ReplyError("ERR This Redis command is not allowed from script")
        writes = command.bits & WRITE
        if writes and self._read_only:
            raise ReplyError("ERR Write commands are not allowed from read-only scripts.")
        engine = self.engine
        if writes and engine.gate & FOLLOWING:
            raise ReplyError(engine.gate_error)
        if command.bits & DENY_OOM and engine.gate & OUT_OF_MEMORY and not engine.store.events:
            raise ReplyError(NO_MEMORY)  # a script that has written may end
        if self._client.gate & CLUSTERED and command.has_keys:
            if engine.slots.refusal(command.keys(argv), writes != 0, self._client.readonly_mode):
                raise ReplyError("ERR Script attempted to access a non local key in a cluster node")

    def _setresp(self, version: int) -> None:
        self._client.resp3 = version == 3

    def _knows(self, name: Any, *args: Any) -> bool:
        return isinstance(name, bytes) and name.upper() in self.engine.commands


def _waits(argv: list[bytes], at: int) -> bool:
    """XREAD or XREADGROUP, whose options begin at `at`, has BLOCK."""
    for arg in argv[at:]:
        word = arg.upper()
        if word == b"BLOCK" or word == b"STREAMS":
            return word == b"BLOCK"
    return False


def shebang(source: bytes) -> tuple[bytes, frozenset[str]]:
    """The code, its first line `#!lua flags=…` made empty, and the flags. Raises ReplyError."""
    if not source.startswith(b"#!"):
        return source, frozenset()
    line, _, rest = source.partition(b"\n")
    engine, *words = line[2:].decode("utf-8", "replace").split()
    if engine.lower() != "lua":
        raise ReplyError(f"ERR Unexpected engine in script shebang: #!{engine}")
    flags: frozenset[str] = frozenset()
    for word in words:
        if not word.startswith("flags="):
            raise ReplyError(f"ERR Unknown lua shebang option: {word}")
        flags = frozenset(flag for flag in word[6:].split(",") if flag)
        for flag in flags:
            if flag not in FLAGS:
                raise ReplyError(f"ERR Unexpected flag in script shebang: {flag}")
    return b"\n" + rest, flags


def _deny(_owner: object, _name: object, _setting: bool) -> None:
    raise AttributeError("not for scripts")


def _sha1hex(text: bytes) -> bytes:
    return hashlib.sha1(text).hexdigest().encode()


def _log(level: float, text: bytes) -> None:
    logger.log(LEVELS[int(level)], "%s", text.decode("utf-8", "backslashreplace"))


def _text_of(failure: BaseException) -> bytes:
    text = failure.args[0] if failure.args else "not enough memory"
    return text if isinstance(text, bytes) else str(text).encode()


def _bytes_of(value: float) -> bytes:
    """A fraction as MessagePack: 4 bytes where they hold it exactly."""
    try:
        short = libraries.pack(b">f", value)
        if _float_of(short) == value:
            return b"\xca" + short
    except libraries.LuaError:
        pass
    return b"\xcb" + libraries.pack(b">d", value)


def _float_of(raw: bytes) -> float:
    return float(libraries.unpack(b">f" if len(raw) == 4 else b">d", raw)[0])  # type: ignore[arg-type]


STRUCT: Final[dict[str, Callable[..., Any]]] = {
    "pack": libraries.pack,
    "unpack": lambda *args: tuple(libraries.unpack(*args)),
    "size": libraries.size,
}


def guarded(function: Callable[..., Any]) -> Callable[..., tuple[Any, ...]]:
    """Never raises: (True, results …) or (False, the text of the error)."""

    def call(*args: Any) -> tuple[Any, ...]:
        try:
            found = function(*args)
        except libraries.LuaError as failure:
            return False, str(failure).encode()
        except (TypeError, ValueError, OverflowError, AttributeError):
            return False, b"bad arguments"
        return (True, *found) if isinstance(found, tuple) else (True, found)

    return call
