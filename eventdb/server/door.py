"""The door: who may connect at all, before a command is read: addresses, how many of each, how long a stranger stays.

Everything is off unless a setting asks for it; a connection then costs a count and nothing else. A change of the
settings holds for the connections that come after it.
"""

from __future__ import annotations

import ipaddress
import time
from typing import TYPE_CHECKING, Final

from eventdb.engine.client import NEEDS_AUTH, Client
from eventdb.metrics.rare_line import RareLine
from eventdb.security.networks import Network, networks

if TYPE_CHECKING:
    from eventdb.engine.engine import Engine

PROTECTED: Final = (
    "DENIED protected-mode is on and the user default has no password, so only connections from this machine are"
    " accepted. Set requirepass, or give default a password by ACL SETUSER, or set protected-mode no"
)
SAY_S: Final = 10.0  # between two lines of the log about those that are turned away


class Door:
    """Of one server: its plain port and its TLS port together."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.held: dict[str, int] = {}  # connections of an address, those in a TLS handshake too
        self.strangers: dict[Client, float] = {}  # not known to have said who they are, and since when
        self.greeting = 0  # in a TLS handshake
        self._lists: tuple[str, str] = ("", "")
        self._allowed: list[Network] = []
        self._denied: list[Network] = []
        self._closed = RareLine(SAY_S)

    def refusal(self, host: str) -> str:
        """Why an address may not connect now, as an error reply; "" if it may."""
        config = self.engine.config
        if config.client_allow_list or config.client_deny_list or config.protected_mode == "yes":
            why = self._refused_address(host)
            if why:
                return why
        most = config.maxclients_per_address
        if most and self.held.get(host, 0) >= most:
            return "ERR max number of clients of this address reached"
        most = config.maxclients_unauthenticated
        if most and len(self.strangers) + self.greeting >= most:
            self._forget_known()
            if len(self.strangers) + self.greeting >= most:
                return "ERR max number of clients that have not authenticated reached"
        return ""

    def _refused_address(self, host: str) -> str:
        config = self.engine.config
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return ""  # a socket of no network
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        lists = (config.client_allow_list, config.client_deny_list)
        if lists != self._lists:
            self._lists = lists
            self._allowed, self._denied = networks(lists[0]), networks(lists[1])
        if any(address in network for network in self._denied):
            return "DENIED this address is on client-deny-list"
        if self._allowed and not any(address in network for network in self._allowed):
            return "DENIED this address is not on client-allow-list"
        if config.protected_mode == "yes" and not address.is_loopback:
            user = self.engine.permissions.users[b"default"]
            if user.nopass and user.enabled:
                return PROTECTED
        return ""

    def _forget_known(self) -> None:
        for client in [each for each in self.strangers if not each.gate & NEEDS_AUTH]:
            del self.strangers[client]

    def hold(self, host: str) -> None:
        self.held[host] = self.held.get(host, 0) + 1

    def release(self, host: str) -> None:
        left = self.held.get(host, 0) - 1
        if left > 0:
            self.held[host] = left
        else:
            self.held.pop(host, None)

    def entered(self, client: Client) -> None:
        if client.gate & NEEDS_AUTH:
            self.strangers[client] = time.monotonic()

    def left(self, client: Client) -> None:
        self.strangers.pop(client, None)
        self.engine.permissions.tokens.forget(client)

    def sweep(self) -> None:
        """Close clients that have not authenticated in time, or not again; called about once a second."""
        self._forget_known()
        for client in self.engine.permissions.tokens.ended():
            self.engine.kill(client)
        limit = self.engine.config.unauthenticated_seconds_max
        if not limit:
            return
        now = time.monotonic()
        for client, since in list(self.strangers.items()):  # the oldest are first
            if now - since < limit:
                break
            self.turned_away(client.address, f"it has not authenticated within {limit} s")
            self.engine.kill(client)

    def turned_away(self, address: str, why: str) -> None:
        """One line for the log, and no more than one in a while: a client that comes again and again fills no disk."""
        self._closed.say(f"closed {address}: {why}")
