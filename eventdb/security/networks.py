"""Lists of networks, as `client-allow-list` and `client-deny-list` have them: "10.0.0.0/8 192.168.1.7 fd00::/8"."""

from __future__ import annotations

import ipaddress

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks(text: str) -> list[Network]:
    """What a list names; an address alone is a network of one. Raises ValueError, which names the word."""
    found: list[Network] = []
    for word in text.split():
        try:
            found.append(ipaddress.ip_network(word))
        except ValueError as error:
            raise ValueError(f"'{word}' is no network such as 10.0.0.0/8: {error}") from None
    return found
