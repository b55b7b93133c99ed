"""CLIENT TRACKING and what belongs to it. Source: redis src/networking.c clientCommand, src/tracking.c."""

from __future__ import annotations

from typing import Final

from eventdb.engine.client import Client
from eventdb.engine.engine import Engine
from eventdb.engine.registry import command, server_command
from eventdb.engine.tracker import Tracker
from eventdb.protocol.errors import ReplyError, shown, syntax_error
from eventdb.protocol.numbers import parse_int
from eventdb.protocol.replies import OK, array, bulk, bulk_set, integer, mapping

NOT_TRACKING: Final = (
    "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled"
)
MODE: Final = (
    "ERR You can't switch {} mode {}before disabling tracking for this client, and then re-enabling it with a"
    " different mode."
)
NO_OVERLAP: Final = "Prefixes for a single client must not overlap."


@server_command(
    "CLIENT TRACKING", arity=-3, flags="noscript loading stale", acl="connection", since="6.0.0",
    group="connection", complexity="O(1) and a little for each prefix",
    summary="Lets a client that caches hear when keys change.",
)  # fmt: skip
def client_tracking(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    asked = _asked(engine, argv)
    word = argv[2].lower()
    if word == b"off":
        engine.news.untrack(client)
        return OK
    if word != b"on":
        raise syntax_error()
    _check(asked, client.tracker)
    if asked.bcast and not asked.prefixes:
        asked.prefixes = [b""]
    engine.news.track(client, asked)
    return OK


def _asked(engine: Engine, argv: list[bytes]) -> Tracker:
    """The options. Raises ReplyError."""
    asked = Tracker()
    i = 3
    while i < len(argv):
        option = argv[i].upper()
        more = i + 1 < len(argv)
        if option == b"REDIRECT" and more:
            i += 1
            if asked.redirect:
                raise ReplyError("ERR A client can only redirect to a single other client")
            asked.redirect = parse_int(argv[i])
            if asked.redirect not in engine.clients:
                raise ReplyError("ERR The client ID you want redirect to does not exist")
        elif option == b"PREFIX" and more:
            i += 1
            asked.prefixes.append(argv[i])
        elif option == b"BCAST":
            asked.bcast = True
        elif option == b"OPTIN":
            asked.optin = True
        elif option == b"OPTOUT":
            asked.optout = True
        elif option == b"NOLOOP":
            asked.noloop = True
        else:
            raise syntax_error()
        i += 1
    return asked


def _check(asked: Tracker, before: Tracker | None) -> None:
    """Options that exclude each other, or what the client has asked for before. Raises ReplyError."""
    if asked.prefixes and not asked.bcast:
        raise ReplyError("ERR PREFIX option requires BCAST mode to be enabled")
    if before is not None and before.bcast != asked.bcast:
        raise ReplyError(MODE.format("BCAST", "on/off "))
    if asked.bcast and (asked.optin or asked.optout):
        raise ReplyError("ERR OPTIN and OPTOUT are not compatible with BCAST")
    if asked.optin and asked.optout:
        raise ReplyError("ERR You can't specify both OPTIN mode and OPTOUT mode")
    if before is not None and ((asked.optin and before.optout) or (asked.optout and before.optin)):
        raise ReplyError(MODE.format("OPTIN/OPTOUT", ""))
    for i, prefix in enumerate(asked.prefixes):
        for other in sorted(before.prefixes) if before is not None else []:
            if _overlap(prefix, other):
                raise ReplyError(
                    f"ERR Prefix '{shown(prefix)}' overlaps with an existing prefix '{shown(other)}'. {NO_OVERLAP}"
                )
        for other in asked.prefixes[i + 1 :]:
            if _overlap(prefix, other):
                raise ReplyError(
                    f"ERR Prefix '{shown(prefix)}' overlaps with another provided prefix '{shown(other)}'. {NO_OVERLAP}"
                )


def _overlap(a: bytes, b: bytes) -> bool:
    return a.startswith(b) or b.startswith(a)


@command(
    "CLIENT CACHING", arity=3, flags="noscript loading stale", acl="connection", since="6.0.0",
    group="connection", summary="Says whether the keys of the next command are cached.",
)  # fmt: skip
def client_caching(client: Client, argv: list[bytes]) -> bytes:
    tracker = client.tracker
    if tracker is None:
        raise ReplyError(NOT_TRACKING)
    word = argv[2].lower()
    if word == b"yes":
        if not tracker.optin:
            raise ReplyError("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
    elif word == b"no":
        if not tracker.optout:
            raise ReplyError("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
    else:
        raise syntax_error()
    tracker.caching = True
    return OK


@command(
    "CLIENT TRACKINGINFO", arity=2, flags="noscript loading stale", acl="connection", since="6.2.0",
    group="connection", summary="Reports what tracking this connection has asked for.",
)  # fmt: skip
def client_trackinginfo(client: Client, argv: list[bytes]) -> bytes:
    tracker, resp3 = client.tracker, client.resp3
    flags, redirect = [b"off"], -1
    prefixes: list[bytes] = []
    if tracker is not None:
        redirect, prefixes = tracker.redirect, sorted(tracker.prefixes)
        flags = [b"on"]
        flags += [b"bcast"] * tracker.bcast
        flags += [b"optin"] * tracker.optin + [b"caching-yes"] * (tracker.optin and tracker.caching)
        flags += [b"optout"] * tracker.optout + [b"caching-no"] * (tracker.optout and tracker.caching)
        flags += [b"noloop"] * tracker.noloop + [b"broken_redirect"] * tracker.broken
    items = [
        bulk(b"flags"), bulk_set(flags, resp3), bulk(b"redirect"), integer(redirect),
        bulk(b"prefixes"), array([bulk(prefix) for prefix in prefixes]),
    ]  # fmt: skip
    return mapping(items, resp3)


@command(
    "CLIENT GETREDIR", arity=2, flags="noscript loading stale", acl="connection", since="6.0.0",
    group="connection", summary="Reports which client hears of changes in place of this one.",
)  # fmt: skip
def client_getredir(client: Client, argv: list[bytes]) -> bytes:
    return integer(-1 if client.tracker is None else client.tracker.redirect)
