"""What one client has asked for by CLIENT TRACKING and CLIENT CACHING: plain data, which its connection carries."""

from __future__ import annotations


class Tracker:
    """What one client has asked for."""

    def __init__(self) -> None:
        self.redirect = 0  # id of the client that is told instead; 0: none
        self.bcast = False
        self.optin = False
        self.optout = False
        self.noloop = False
        self.broken = False  # the client that was to be told is gone
        self.caching = False  # CLIENT CACHING was given for the next command
        self.caching_used = False  # … and that one has begun
        self.prefixes: list[bytes] = []  # with bcast
