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
from collections.abc import Callable
from importlib import resources
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from eventdb.cluster.slots import key_slot
from eventdb.engine.client import CACHES, CLUSTERED, FOLLOWING, OBSERVED, OUT_OF_MEMORY, RESTRICTED, Client
from eventdb.engine.command import DENY_OOM, NOSCRIPT, WRITE, Command
from eventdb.engine.gates import NO_MEMORY
from eventdb.engine.pause import MAY_WRITE
from eventdb.keyspace.databases import Libraries
from eventdb.protocol.errors import ReplyError
from eventdb.scripting import libraries
from eventdb.scripting.functions import Function, Functions
from eventdb.scripting.headers import FLAGS, OLD, Rules, script_header
from eventdb.scripting.places import tail_line
from eventdb.scripting.replies import ERROR, STOPPED, lua_value
from eventdb.scripting.watch import Watch
from eventdb.security.acl import ALLOWED

if TYPE_CHECKING:
    from eventdb.engine.engine import Engine

SOURCES: Final = resources.files("eventdb.scripting")
SOFT_BYTES: Final = 64 << 20  # above it nothing is handed to scripts: see Lua
MEMORY_MAX: Final = 4 * SOFT_BYTES  # that all scripts of a server may hold together; then Lua's own allocations fail
LARGE: Final = 1 << 16  # bytes from which on it is asked whether a reply fits
BULK: Final = 36  # "$"
ASKED: Final = NOSCRIPT | WRITE | DENY_OOM  # bits of commands that may be refused
FEW: Final = 200  # keys and arguments that are passed one by one; more of them as two tables
WAITING: Final = {"xread": 1, "xreadgroup": 4}  # commands that may wait, and where their options begin
LEVELS: Final = (logging.DEBUG, logging.DEBUG, logging.INFO, logging.WARNING)
VERSION: Final = b"7.0.15"
VERSION_NUMBER: Final = 0x0007000F

logger: Final = logging.getLogger("eventdb.scripting")


class Script:
    """A compiled one."""

    def __init__(self, sha: bytes, source: bytes, chunk: Any, rules: Rules, runtime: object) -> None:
        self.sha = sha
        self.source = source
        self.chunk = chunk
        self.lines = source.rstrip().count(b"\n") + 1
        self.rules = rules
        self.runtime = runtime


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
        self.watch = Watch(engine)
        self.scripts: dict[bytes, Script] = {}  # by SHA-1, in hexadecimal
        self._by_source: dict[bytes, Script] = {}
        self._client = Client(engine.store, engine.turn, 0, _Nowhere())
        self._client.is_script = True
        self._caller = self._client  # whose script runs
        self._rules = OLD  # of what runs
        self._read_only = False
        self._slot = -1  # of the keys that what runs has named, in cluster mode
        self._registered: list[tuple[Any, ...]] = []  # by the library that is being loaded
        self._running = b"", 1  # the source of what runs, and its last line
        self._failed = b""  # the name of the last command that failed
        self._errors = (lua51.LuaError, lua51.LuaMemoryError)
        make: Any = lua51.LuaRuntime
        self._make_runtime: Callable[[], Any] = lambda: make(
            encoding=None, source_encoding="latin-1", register_eval=False, register_builtins=False,
            unpack_returned_tuples=True, max_memory=MEMORY_MAX, attribute_filter=_deny,
        )  # fmt: skip
        self._start()
        self.functions = Functions(self)
        engine.pause.reads_only = self.reads_only

    def reads_only(self, command: str, name: bytes) -> bool:
        """EVALSHA or FCALL of this name calls what may write nothing, by its flags."""
        if command == "evalsha":
            script = self.scripts.get(name.lower())
            return script is not None and script.rules.no_writes
        try:
            function = self.functions.find(name)
        except ReplyError:
            return False
        return function is not None and function.rules.no_writes

    def _start(self) -> None:
        """A new interpreter, without scripts."""
        self.runtime = self._make_runtime()
        table = self.runtime.table_from
        self._table = table
        host = table({
            b"call": self._call, b"call_many": self._call_many, b"sha1hex": _sha1hex,
            b"setresp": self._setresp, b"resp3": lambda: self._client.resp3,
            b"log": _log, b"allows": self._allows, b"look": self.watch.look, b"version": VERSION,
            b"tail_line": lambda called: tail_line(*self._running, self._failed if called else None),
            b"version_number": VERSION_NUMBER, b"register": self._register, b"flags": " ".join(FLAGS).encode(),
        })  # fmt: skip
        made = dict(self._file("sandbox.lua", host).items())
        self._load_script, self._load_functions = made[b"load_script"], made[b"load_functions"]
        self._run, self._run_few, self._load_library = made[b"run"], made[b"run_few"], made[b"load_library"]
        self._call_function, self._call_few = made[b"call_function"], made[b"call_few"]
        self._hook = made[b"sethook"], made[b"look"], made[b"instructions"]
        add_library, wrap, raise_ = made[b"add_library"], made[b"wrap"], made[b"raise"]
        wrap_numbers = made[b"wrap_numbers"]
        add_library(b"cjson", self._file("cjson.lua", self.runtime.eval("newproxy(false)"), raise_))
        add_library(b"cmsgpack", self._file("cmsgpack.lua", _bytes_of, _float_of, raise_))
        bits = {
            key.encode(): wrap_numbers(guarded(f), key.encode(), least, most)
            for key, (f, least, most) in libraries.BIT.items()
        }
        add_library(b"bit", table(bits))
        add_library(b"struct", table({key.encode(): wrap(guarded(f)) for key, f in STRUCT.items()}))
        made[b"complete"]()
        self._arm()

    def _arm(self) -> None:
        """Let the hook look at the clock. Set from here: while a script is being stopped every line of Lua raises."""
        self.watch.stopped = False
        sethook, look, instructions = self._hook
        sethook(look, b"", instructions)

    def _file(self, name: str, *args: Any) -> Any:
        """Run one of our own files. Its functions bear the name `=eventdb` in the interpreter's messages."""
        source = SOURCES.joinpath(name).read_bytes()
        return self.runtime.eval("function(source, ...) return assert(loadstring(source, '=eventdb'))(...) end")(
            source, *args
        )

    def memory_bytes(self) -> int:
        """What the interpreter and all that scripts have made takes."""
        return int(self.runtime.get_memory_used() or 0)

    # -- scripts

    def load(self, source: bytes) -> Script:
        """The script of this source, compiled now or before. Raises ReplyError."""
        script = self._by_source.get(source)
        if script is not None:
            return script
        if len(source) > SOFT_BYTES // 4:
            raise ReplyError("ERR Error compiling script (new function): the script is too long")
        self.make_room()
        code, rules = script_header(source)
        chunk = self._compiled(self._load_script, code, b"@user_script")
        if isinstance(chunk, bytes):
            raise ReplyError(f"ERR Error compiling script (new function): {chunk.decode('utf-8', 'surrogateescape')}")
        script = Script(hashlib.sha1(source).hexdigest().encode(), source, chunk, rules, self.runtime)
        self._by_source[source] = script
        self.scripts[script.sha] = script
        return script

    def _compiled(self, load: Any, code: bytes, name: bytes) -> Any:
        """The chunk; bytes: why it cannot be compiled."""
        try:
            found = load(code, name)
        except self._errors as failure:
            return _text_of(failure)
        return found[1 if found[0] is None else 0]

    def load_library(self, code: bytes, limit_s: float) -> list[tuple[Any, ...]]:
        """Run a library's code; returns what it registers: name, description, flags, function, last line.

        Raises ReplyError. limit_s: 0.0 is none but the one of scripts.
        """
        if len(code) > SOFT_BYTES // 4:
            raise ReplyError("ERR Error compiling function: the library is too long")
        self.make_room()
        chunk = self._compiled(self._load_functions, code, b"@user_function")
        if isinstance(chunk, bytes):
            raise ReplyError(f"ERR Error compiling function: {chunk.decode('utf-8', 'replace')}")
        self._registered = []
        self._running = code, code.rstrip().count(b"\n") + 1
        self.watch.begin_loading(limit_s)
        try:
            why = self._load_library(chunk)
        except self._errors as failure:
            why = b"ERR " + _text_of(failure)
        finally:
            self.watch.end()
            if self.watch.stopped:
                self._arm()
        registered, self._registered = self._registered, []
        if why is not None:
            raise ReplyError("ERR Error registering functions: " + why.decode("utf-8", "surrogateescape"))
        return registered

    def kept(self) -> Libraries:
        return self.engine.store.keyspace.libraries

    def _register(self, *args: Any) -> None:
        """redis.register_function, its arguments checked."""
        self._registered.append(args)

    def flush(self) -> None:
        """SCRIPT FLUSH."""
        self.scripts.clear()
        self._by_source.clear()
        self._start()

    def make_room(self) -> None:
        """Before anything is handed over: collect if need be, and where that does not help begin anew."""
        if self.runtime.get_memory_used(True) <= SOFT_BYTES:
            return
        self.runtime.gccollect()
        if self._used() > SOFT_BYTES:
            sources = list(self._by_source)
            self.flush()
            for source in sources:
                self.load(source)

    def _used(self) -> int:
        return int(self.runtime.get_memory_used(True) or 0)

    def _fits(self, size: int) -> bool:
        """Lua can take N bytes without an allocation that fails."""
        return size <= SOFT_BYTES and self._used() + size < MEMORY_MAX // 2

    def run(self, client: Client, script: Script, argv: list[bytes], count: int, read_only: bool) -> bytes:
        """Run a script for this client, with argv[3:] as its keys, `count` of them, and arguments.

        Raises ReplyError.
        """
        self._prepare(client, script.rules, argv, read_only)
        if script.runtime is not self.runtime:  # it had too much memory, and is a new one
            script = self.load(script.source)
        self.watch.begin(script.sha, argv, False)
        self._running = script.source, script.lines
        if len(argv) <= FEW:
            return self._finish(script.sha, self._run_few, (script.chunk, client.resp3, count, *argv[3:]))
        keys, rest = self._table(argv[3 : 3 + count]), self._table(argv[3 + count :])
        return self._finish(script.sha, self._run, (script.chunk, client.resp3, keys, rest))

    def call(self, client: Client, function: Function, argv: list[bytes], count: int, read_only: bool) -> bytes:
        """Call a function for this client, with argv[3:] as its keys, `count` of them, and arguments.

        Raises ReplyError.
        """
        self._prepare(client, function.rules, argv, read_only)
        function = self.functions.current(function)
        self.watch.begin(function.name, argv, True)
        self._running = function.source, function.last_line
        if len(argv) <= FEW:
            return self._finish(function.name, self._call_few, (function.call, client.resp3, count, *argv[3:]))
        keys, rest = self._table(argv[3 : 3 + count]), self._table(argv[3 + count :])
        return self._finish(function.name, self._call_function, (function.call, client.resp3, keys, rest))

    def _prepare(self, client: Client, rules: Rules, argv: list[bytes], read_only: bool) -> None:
        """Hold a script to its flags, and make ready to run it. Raises ReplyError."""
        if sum(map(len, argv)) > SOFT_BYTES:
            raise ReplyError("ERR the arguments of the script are too large")
        if not rules.old:
            self._check_flags(client, rules, read_only)
        self.make_room()
        own = self._client
        self._caller = client
        own.db = client.db
        own.gate = client.gate & (CLUSTERED | RESTRICTED)
        own.user = client.user
        own.readonly_mode = client.readonly_mode
        own.resp3 = False
        if own.id != client.id:
            own.id, own.address = client.id, client.address
        self._rules = rules
        self._read_only = read_only or rules.no_writes
        self._slot = -1

    def _check_flags(self, client: Client, rules: Rules, read_only: bool) -> None:
        """Raises ReplyError when a script with these flags may not run here and now."""
        gate = self.engine.gate
        if gate & OUT_OF_MEMORY and not gate & FOLLOWING and not rules.allow_oom and not rules.no_writes:
            raise ReplyError(NO_MEMORY)
        if gate & FOLLOWING and not rules.no_writes:
            raise ReplyError(self.engine.gate_error)
        if rules.no_cluster and client.gate & CLUSTERED:
            raise ReplyError("ERR Can not run script on cluster, 'no-cluster' flag is set.")
        if read_only and not rules.no_writes:
            raise ReplyError("ERR Can not execute a script with write flag using *_ro command.")

    def _finish(self, name: bytes, function: Any, args: tuple[Any, ...]) -> bytes:
        store = self.engine.store
        inside = store.in_exec
        store.in_exec = True  # nothing blocks, and messages wait until the end
        try:
            found = function(*args)
        except self._errors as failure:
            raise ReplyError(f"ERR {_text_of(failure).decode('utf-8', 'surrogateescape')}") from None
        finally:
            store.in_exec = inside
            self.watch.end()
            if self.watch.stopped:
                self._arm()
        if type(found) is bytes:
            return b"$%d\r\n%b\r\n" % (len(found), found)
        reply, text = found[0], found[1]
        if reply is not None:
            return bytes(reply)
        if len(found) > 2 and found[2] is not None:
            text += b" script: %b, on %b:%d." % (name, found[2], found[3])
        raise ReplyError(text.decode("utf-8", "surrogateescape"))

    # -- what a script calls

    def _call(self, *args: Any) -> Any:
        """redis.call and redis.pcall: the value, or what replies.py says of one that is none."""
        found: Any
        try:
            if monotonic() > self.watch.due:
                stop = self.watch.look()
                if stop is not None:
                    return stop, STOPPED
            argv = list(args)
            for arg in args:
                if type(arg) is not bytes:
                    argv = [_argument(each) for each in args]
                    break
            found = self._run_command(argv)
        except ReplyError as failure:
            found = failure.text.encode("utf-8", "surrogateescape"), ERROR
        except Exception:
            logger.exception("internal error in a script's call")
            found = b"ERR internal error in a script's call; the server's log has the details", ERROR
        undo = self.engine.store.undo
        failed = type(found) is tuple and found[1] == ERROR
        if failed or undo is not None:
            name = args[0] if args and type(args[0]) is bytes else b""
            if failed:
                self._failed = name
            if undo is not None:
                undo.called(name, found[0] if failed else b"")
        return found

    def _run_command(self, argv: list[bytes]) -> Any:
        if not argv:
            raise ReplyError("ERR Please specify at least one argument for this redis lib call")
        engine = self.engine
        command = engine.commands.get(argv[0]) or engine.commands.get(argv[0].upper())
        if command is None:
            raise ReplyError("ERR Unknown Redis command called from script")
        if command.subcommands and len(argv) > 1:
            command = command.subcommands.get(argv[1].upper())
            if command is None:
                raise ReplyError("ERR Unknown Redis command called from script")
        self._check(command, argv)
        if command.name in WAITING and _waits(argv, WAITING[command.name]):
            name = argv[0].decode("utf-8", "surrogateescape")
            raise ReplyError(f"ERR {name} command is not allowed with BLOCK option from scripts")
        if (self._caller.gate & CACHES) | (engine.gate & OBSERVED):
            engine.news.inside(self._caller, command, argv, self._client.db, True)
        own = self._client
        reply = engine.invoke(own, command, argv)
        if engine.store.heeded:
            engine.news.gather(command, argv)
        if not reply:  # it waits, or answers in another way than by a reply
            engine.unblock(own)
            raise ReplyError("ERR This Redis command is not allowed from script")
        if len(reply) > LARGE and not self._fits(len(reply) if reply[0] == BULK else 8 * len(reply)):
            raise ReplyError("ERR not enough memory")
        return lua_value(reply, self._table, own.resp3)

    def _call_many(self, arguments: Any, count: int) -> Any:
        """The same with its arguments in a table; where one of them is nil, it holds fewer."""
        found = list(arguments.values())
        return self._call(*found) if len(found) == count else self._call(None)

    def _check(self, command: Command, argv: list[bytes]) -> None:
        """Raises ReplyError when a script may not run the command."""
        n, arity = len(argv), command.arity
        if n != arity if arity >= 0 else n < -arity:
            raise ReplyError("ERR Wrong number of args calling Redis command from script")
        if not (command.bits & ASKED or self._client.gate or self._read_only):
            return
        if command.bits & NOSCRIPT:
            raise ReplyError("ERR This Redis command is not allowed from script")
        if self._client.gate & RESTRICTED:
            denied = self.engine.permissions.refusal_in_script(self._client, command, argv)
            if denied:
                raise ReplyError(denied)
        writes = command.bits & WRITE
        if self._read_only and (writes or command.name in MAY_WRITE):
            raise ReplyError("ERR Write commands are not allowed from read-only scripts.")
        engine = self.engine
        if writes and engine.gate & FOLLOWING:
            raise ReplyError(engine.gate_error)
        needs = command.bits & DENY_OOM and not self._rules.allow_oom
        if needs and engine.gate & OUT_OF_MEMORY and not engine.store.events:
            raise ReplyError(NO_MEMORY)  # a script that has written may end
        if self._client.gate & CLUSTERED and command.has_keys:
            if engine.slots.refusal(command.keys(argv), writes != 0, self._client.readonly_mode):
                raise ReplyError("ERR Script attempted to access a non local key in a cluster node")
            if not self._rules.allow_cross_slot_keys:
                self._check_slot(command.keys(argv))

    def _check_slot(self, keys: list[bytes]) -> None:
        """Raises ReplyError when a script that says what it does names keys of two slots."""
        for key in keys:
            slot = key_slot(key)
            if self._slot not in (-1, slot):
                raise ReplyError("ERR Script attempted to access keys that do not hash to the same slot")
            self._slot = slot

    def _setresp(self, version: int) -> None:
        self._client.resp3 = version == 3

    def _allows(self, *args: Any) -> bool | None:
        """Its caller may run this (redis.acl_check_cmd); None: there is no such command."""
        argv = [_argument(each) for each in args]
        command = self.engine.commands.get(argv[0].upper())
        if command is not None and command.subcommands and len(argv) > 1:
            command = command.subcommands.get(argv[1].upper())
        if command is None:
            return None
        try:
            verdict, _ = self.engine.permissions.judge(self._client.user, command, argv)
        except (ReplyError, LookupError, ValueError):  # a call so short that it has no keys
            return None
        return verdict == ALLOWED


def _waits(argv: list[bytes], at: int) -> bool:
    """XREAD or XREADGROUP, whose options begin at `at`, has BLOCK."""
    for arg in argv[at:]:
        word = arg.upper()
        if word == b"BLOCK" or word == b"STREAMS":
            return word == b"BLOCK"
    return False


def _argument(value: object) -> bytes:
    """An argument of redis.call as a command has it. Raises ReplyError."""
    if isinstance(value, bytes):
        return value
    if type(value) is int or type(value) is float:
        return b"%d" % value if value == value // 1 and abs(value) < 1e17 else b"%.17g" % value
    raise ReplyError("ERR Lua redis lib command arguments must be strings or integers")


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
