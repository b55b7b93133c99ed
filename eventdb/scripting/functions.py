"""Functions: libraries of Lua code that are part of the state. Source: redis src/functions.c, src/function_lua.c.

The keyspace holds the sources, which a replay fills without an interpreter. They are compiled here when one of their
functions is asked for: anew if a library has changed, or if the interpreter was started again. So what a library keeps
in local variables lives as long as the interpreter does, on this node alone.
"""

from __future__ import annotations

from typing import Any, Protocol

from eventdb.keyspace.databases import Libraries
from eventdb.protocol.errors import ReplyError
from eventdb.scripting.headers import BAD_NAME, Rules, is_name, library_header


class Interpreter(Protocol):
    """What compiles libraries (lua.py)."""

    @property
    def runtime(self) -> object:
        """Another object after each new start; what was compiled before is of no use then."""

    def kept(self) -> Libraries:
        """The sources, of the state."""

    def make_room(self) -> None:
        """Called before anything is compiled; may start the runtime again."""

    def load_library(self, code: bytes, limit_s: float) -> list[tuple[Any, ...]]:
        """Run code; returns what it registers: name, description, flags, function, last line. Raises ReplyError."""


class Function:
    """One function of a library."""

    def __init__(
        self, name: bytes, description: bytes | None, rules: Rules, call: Any, source: bytes, last_line: int
    ) -> None:
        self.name = name
        self.description = description
        self.rules = rules
        self.call = call
        self.source = source  # of its library
        self.last_line = last_line


class Library:
    """A compiled one."""

    def __init__(self, name: bytes, source: bytes, functions: list[Function]) -> None:
        self.name = name
        self.source = source
        self.functions = functions


class Functions:
    """The libraries of one engine as they are compiled in its interpreter."""

    def __init__(self, lua: Interpreter) -> None:
        self.lua = lua
        self._version = -1  # of the keyspace's libraries
        self._runtime: object = None  # in which they are compiled
        self._libraries: dict[bytes, Library] = {}
        self._by_name: dict[bytes, Function] = {}  # in lower case

    def libraries(self) -> dict[bytes, Library]:
        """All, by name. Raises ReplyError: one cannot be compiled here."""
        kept = self.lua.kept()
        if self._version != kept.version or self._runtime is not self.lua.runtime:
            self.lua.make_room()
            runtime = self.lua.runtime
            known = self._libraries if self._runtime is runtime else {}
            found: dict[bytes, Library] = {}
            for name, source in kept.code.items():
                library = known.get(name)
                if library is None or library.source != source:
                    library = self.compile(source)
                found[name] = library
            self._libraries = found
            self._by_name = {each.name.lower(): each for one in found.values() for each in one.functions}
            self._version = kept.version
            self._runtime = runtime
        return self._libraries

    def find(self, name: bytes) -> Function | None:
        """The function of this name, in any case of its letters."""
        self.libraries()
        return self._by_name.get(name) or self._by_name.get(name.lower())

    def current(self, function: Function) -> Function:
        """The same function, compiled anew if the interpreter is a new one."""
        if self._runtime is not self.lua.runtime:
            self.libraries()
            return self._by_name[function.name.lower()]
        return function

    def compile(self, source: bytes, *, limit_s: float = 0.0) -> Library:
        """Run a library's code, which registers its functions. Raises ReplyError. limit_s: 0.0 is none."""
        code, name = library_header(source)
        registered = self.lua.load_library(code, limit_s)
        functions: list[Function] = []
        taken: set[bytes] = set()
        for function, description, flags, call, last_line in registered:
            if not is_name(function):
                raise ReplyError(f"ERR Error registering functions: ERR {BAD_NAME}")
            if function in taken:
                raise ReplyError("ERR Error registering functions: ERR Function already exists in the library")
            taken.add(function)
            rules = Rules(frozenset(flags.decode().split()))
            functions.append(Function(function, description, rules, call, source, int(last_line)))
        if not functions:
            raise ReplyError("ERR No functions registered")
        return Library(name, source, functions)

    def keep(self, library: Library) -> None:
        """It has just been compiled and is part of the state now: it is not compiled again."""
        self._libraries[library.name] = library

    @staticmethod
    def name_of(source: bytes) -> bytes:
        """The name of the library. Raises ReplyError."""
        return library_header(source)[1]

    def counts(self) -> tuple[int, int]:
        """How many libraries there are, and how many functions those have that are compiled."""
        names = self.lua.kept().code
        return len(names), sum([len(one.functions) for name, one in self._libraries.items() if name in names])

    def check_names(self, new: list[Library], among: dict[bytes, Library]) -> None:
        """Raises ReplyError when a function of `new` has the name of another one there, or of one in `among`."""
        replaced = {library.name for library in new}
        taken = {each.name.lower() for name, one in among.items() if name not in replaced for each in one.functions}
        for library in new:
            for each in library.functions:
                if each.name.lower() in taken:
                    raise ReplyError(f"ERR Function {each.name.decode()} already exists")
                taken.add(each.name.lower())
