"""Looking up the names of other machines so that a name nobody knows any more holds up no other.

A resolver may take many seconds to decline the name of a machine that is down, and a lookup cannot be ended. An event
loop has a few threads for all of them (uvloop: four), so that a few attempts to reach a dead machine would keep it from
finding those that are alive. Here every name has a thread of its own, and any caller that asks meanwhile waits for
that one.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import Future

_asked: dict[str, Future[None]] = {}  # the lookups under way, in this process
_lock = threading.Lock()


async def known(host: str) -> None:
    """Return once `host` has an address; the loop's own lookup then finds it at once. Raises OSError: it has none."""
    with _lock:
        lookup = _asked.get(host)
        if lookup is None:
            lookup = Future()
            lookup.set_running_or_notify_cancel()  # a caller that gives up does not end it for the others
            threading.Thread(target=_look_up, args=(host, lookup), name=f"lookup {host}", daemon=True).start()
            _asked[host] = lookup
    await asyncio.wrap_future(lookup)


def _look_up(host: str, lookup: Future[None]) -> None:
    failure: OSError | None = None
    try:
        socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        failure = error
    except Exception as error:  # UnicodeError: a label that is empty or too long
        failure = OSError(f"{host!r} cannot be looked up: {error}")
    with _lock:
        del _asked[host]
    if failure is None:
        lookup.set_result(None)
    else:
        lookup.set_exception(failure)
