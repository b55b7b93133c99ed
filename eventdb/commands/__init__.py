"""commands: what each command means. A module registers its handlers when it is imported; `load` imports them all."""

from __future__ import annotations

import functools
import importlib
import pkgutil


@functools.cache
def load() -> None:
    """Fill the registry: import every module below this package. The order means nothing; a second call is free."""
    for found in pkgutil.walk_packages(__path__, f"{__name__}."):
        importlib.import_module(found.name)
