"""Fills the table of event kinds: importing this module imports every data type, so that any log can be replayed.

No command is loaded: a replay, a restore and a digest need none.
"""

from __future__ import annotations

import importlib
import pkgutil

from eventdb.keyspace import types

for _found in pkgutil.iter_modules(types.__path__):
    importlib.import_module(f"{types.__name__}.{_found.name}")
