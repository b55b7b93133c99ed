"""commands: what each command means. One module per group; importing the package fills the registry."""

import importlib
from typing import Final

MODULES: Final = (
    "keys",
    "databases",
    "objects",
    "expiry",
    "scan",
    "strings",
    "counters",
    "lcs",
    "sort",
    "lists",
    "lists_blocking",
    "hashes",
    "sets",
    "zsets",
    "zsets_range",
    "zsets_combine",
    "zsets_blocking",
    "connection",
    "clients",
    "pubsub",
    "transactions",
    "introspection",
    "config",
    "info",
    "eventdb",
    "administration",
    "replication",
    "cluster",
    "sentinel",
    "diagnosis",
)

for _name in MODULES:
    importlib.import_module(f"eventdb.commands.{_name}")
