"""Error replies: the exception that carries one, and every text of Redis's that two files use.

Source: redis src/server.c (createSharedObjects) and where the texts are used. What belongs to one command stands there.
"""

from __future__ import annotations

from typing import Final


class ReplyError(Exception):
    """An error reply. The text starts with its code: "ERR syntax error". Raise before anything is emitted."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


WRONGTYPE: Final = "WRONGTYPE Operation against a key holding the wrong kind of value"
SYNTAX: Final = "ERR syntax error"
NOT_INTEGER: Final = "ERR value is not an integer or out of range"
NOT_FLOAT: Final = "ERR value is not a valid float"
NO_SUCH_KEY: Final = "ERR no such key"
SAME_OBJECT: Final = "ERR source and destination objects are the same"
DB_OUT_OF_RANGE: Final = "ERR DB index is out of range"
DISCARDED: Final = "EXECABORT Transaction discarded because of: "  # and the reason, without its ERR

# Numbers.
INDEX_OUT_OF_RANGE: Final = "ERR index out of range"
VALUE_OUT_OF_RANGE: Final = "ERR value is out of range"
NOT_POSITIVE: Final = "ERR value is out of range, must be positive"
OVERFLOW: Final = "ERR increment or decrement would overflow"
SUM_NAN_OR_INFINITY: Final = "ERR increment would produce NaN or Infinity"
COUNT_TOO_SMALL: Final = "ERR COUNT must be > 0"
COUNT_NOT_POSITIVE: Final = "ERR count should be greater than 0"
LIMIT_NEGATIVE: Final = "ERR LIMIT can't be negative"
NUMKEYS_TOO_SMALL: Final = "ERR numkeys should be greater than 0"
NUMKEYS_TOO_LARGE: Final = "ERR Number of keys can't be greater than number of args"
TIMEOUT_NOT_INTEGER: Final = "ERR timeout is not an integer or out of range"
TIMEOUT_NEGATIVE: Final = "ERR timeout is negative"
TIMEOUT_OUT_OF_RANGE: Final = "ERR timeout is out of range"

# FAILOVER, which the command and the node refuse.
FAILOVER_ON_REPLICA: Final = "ERR FAILOVER is not valid when server is a replica."
FAILOVER_UNDER_WAY: Final = "ERR FAILOVER already in progress."
FAILOVER_ALONE: Final = "ERR FAILOVER requires connected replicas."
FAILOVER_NO_SUCH_REPLICA: Final = "ERR FAILOVER target HOST and PORT is not a replica."


def wrong_type() -> ReplyError:
    return ReplyError(WRONGTYPE)


def syntax_error() -> ReplyError:
    return ReplyError(SYNTAX)


def shown(arg: bytes, size_max: int = 1 << 30) -> str:
    """An argument as an error text shows it: up to a NUL byte, as Redis's, whose texts are made of C strings."""
    return arg.partition(b"\0")[0][:size_max].decode("utf-8", "surrogateescape")


TOO_MANY_CLIENTS: Final = "ERR max number of clients reached"


def wrong_arity(name: str) -> ReplyError:
    """The number of arguments is wrong; `name` is the command's, in lower case."""
    return ReplyError(f"ERR wrong number of arguments for '{name}' command")


def wrong_subcommand(argv: list[bytes]) -> ReplyError:
    """What a container says of a subcommand that it does not know, or whose arguments make no sense."""
    name = argv[0].decode("utf-8", "surrogateescape").upper()
    return ReplyError(
        f"ERR unknown subcommand or wrong number of arguments for '{shown(argv[1], 128)}'. Try {name} HELP."
    )


def not_between(low: int, high: int) -> str:
    """The text for a number outside of a range; the grammar is Redis's (src/object.c getRangeLongFromObjectOrReply)."""
    return f"ERR value is out of range, value must between {low} and {high}"


def no_group(key: bytes, name: bytes, where: str = "") -> ReplyError:
    """The stream or its consumer group is missing."""
    return ReplyError(f"NOGROUP No such key '{shown(key)}' or consumer group '{shown(name)}'{where}")


def no_group_for_key(key: bytes, name: bytes) -> ReplyError:
    """The stream has no such consumer group."""
    return ReplyError(f"NOGROUP No such consumer group '{shown(name)}' for key name '{shown(key)}'")
