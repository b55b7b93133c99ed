"""`eventdb failover`: ask the primary to hand over, and wait until the other one answers."""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any, Final

import hiredis

from eventdb.keyspace.events import encode_event
from eventdb.security.tls import Tls, TlsError

ANSWER_S: Final = 5.0
LOOK_S: Final = 0.005


def trusting(ca_cert_file: str, cert_file: str, key_file: str) -> ssl.SSLContext | None:
    """For nodes whose certificates this authority has signed; None without one. Raises TlsError."""
    if not ca_cert_file:
        if cert_file or key_file:
            raise TlsError("tls-ca-cert-file", "TLS needs an authority whose certificates are trusted")
        return None
    tls = Tls()
    for name, value in (("ca_cert_file", ca_cert_file), ("cert_file", cert_file), ("key_file", key_file)):
        tls.put(name, value)
    tls.put("replication", "yes")
    return tls.client_context()


class Refused(Exception):  # noqa: N818
    """A node answered with an error, or nobody could be asked; the text is for a person."""


class Closed(Refused):
    """The node closed the connection, as a primary does to its clients when it is none any more."""


class Connection:
    """One connection to a node, a plain one or with TLS. Raises Refused for whatever goes wrong."""

    def __init__(self, address: str, password: str, tls: ssl.SSLContext | None = None, user: str = "") -> None:
        self.address = address
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            raise Refused(f"{address!r} is no address of a node: give HOST:PORT")
        try:
            self._socket = socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S)
            if tls is not None:
                self._socket = tls.wrap_socket(self._socket, server_hostname=host.strip("[]"))
        except (OSError, ValueError) as error:
            raise Refused(f"no node answers at {address}: {error}") from None
        self._reader = hiredis.Reader(encoding="utf-8", errors="replace")
        if password or user:
            try:
                self.ask("AUTH", *([user] if user else []), password)
            except Refused:
                self.close()
                raise

    def ask(self, *words: str) -> Any:
        try:
            self._socket.sendall(encode_event([word.encode("utf-8", "surrogateescape") for word in words]))
            while (reply := self._reader.gets()) is False:
                data = self._socket.recv(1 << 16)
                if not data:
                    raise Closed(f"{self.address} closed the connection")
                self._reader.feed(data)
        except (ConnectionResetError, BrokenPipeError):  # it closed while we asked
            raise Closed(f"{self.address} closed the connection") from None
        except (OSError, hiredis.ProtocolError) as error:
            raise Refused(f"{self.address} does not answer: {error}") from None
        if isinstance(reply, hiredis.ReplyError):
            raise Refused(f"{self.address} says: {reply}")
        return reply

    def wait_long(self) -> None:
        """For a question that may take any time to answer."""
        self._socket.settimeout(None)

    def close(self) -> None:
        self._socket.close()


def hand_over(
    address: str, to: str, timeout_ms: int, password: str, tls: ssl.SSLContext | None = None
) -> tuple[str, str, float]:
    """Hand the primary's role over; returns the addresses of the old and the new primary, and the seconds it took.

    address: of any node; a replica knows the primary. to: of the node meant, or empty. Raises Refused.
    """
    node = Connection(address, password, tls)
    if node.ask("ROLE")[0] != "master":
        known = _primary(node)
        if not known:
            raise Refused(f"{address} knows no primary at the moment; is one just being chosen?")
        node.close()
        node = Connection(known, password, tls)
    old = _primary(node) or node.address
    words = ["FAILOVER"]
    if to:
        host, _, port = to.rpartition(":")
        words += ["TO", host.strip("[]"), port]
    began = time.monotonic()
    node.ask(*words, "TIMEOUT", str(timeout_ms))
    deadline = began + 2 * timeout_ms / 1000
    while time.monotonic() < deadline:
        try:
            new = _successor(node, old)
        except Closed:
            node.close()
            node = Connection(node.address, password, tls)
            continue
        if new:
            return old, new, time.monotonic() - began
        time.sleep(LOOK_S)
    raise Refused(f"{old} gave the lease back, but nobody has taken it within {2 * timeout_ms} ms")


def _successor(node: Connection, old: str) -> str:
    """The new primary's address once `node`, which handed over, knows it; or "". Raises Refused."""
    new = _primary(node)
    if new and node.ask("ROLE")[0] != "master":
        return new if new != old else ""
    if node.ask("INFO", "replication").find("master_failover_state:no-failover") >= 0:
        if node.ask("ROLE")[0] == "master":
            raise Refused(f"{old} is the primary again: nothing was handed over; what it printed says why")
    return ""


def _primary(node: Connection) -> str:
    """host:port of the primary as this node knows it, whatever the service is called; or "". Raises Refused."""
    masters = node.ask("SENTINEL", "MASTERS")
    if not masters:
        return ""
    fields = dict(zip(masters[0][::2], masters[0][1::2], strict=True))
    host, port = fields["ip"], fields["port"]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
