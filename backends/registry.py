"""Find the backend that a log URL names.

The backends of this tree are found without being installed; any other comes from the entry-point group
`eventdb.backends`, where a third party registers `scheme = "module:function"` (see `log.Backend`).
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from eventdb.backends.discreet import discreet
from eventdb.backends.log import Backend, BadLogURL, Foreseeing, Log
from eventdb.backends.seal import ENVIRONMENT, Keyring, Sealing

GROUP: Final = "eventdb.backends"

_BUILT_IN: Final[dict[str, tuple[str, str]]] = {
    "memory": ("eventdb.backends.memory", "open_memory"),
    "quorum": ("eventdb.backends.quorum", "open_quorum"),
    "kafka": ("eventdb.backends.kafka", "open_kafka"),
}


def open_log(url: str, *, foresee: bool = False, keys: Keyring | str | None = None) -> Log:
    """Return the Log at `url`; opens nothing yet. Raises BadLogURL, BadKeys.

    foresee: for a caller that looks at a log that nobody may be writing (see `Foreseeing`). keys: a keyring or its URL
    (`keyrings.py`), where EVENTDB_ENCRYPTION_KEYS is not to say it: what seals the log's records.
    """
    scheme, colon, _rest = url.partition(":")
    if not colon or not scheme:
        raise BadLogURL(f"{discreet(url)!r} is no log URL: write SCHEME:WHERE, with one of {known()}")
    log = _backend(scheme.lower(), url)(url)
    if foresee and isinstance(log, Foreseeing):
        log.foresee()
    keyring: Keyring | None = None
    if isinstance(keys, Keyring):
        keyring = keys
    elif keys or ENVIRONMENT in os.environ:
        from eventdb.backends.keyrings import keyring_of  # only then: it knows files, commands and plugins

        keyring = keyring_of(keys or "")
    if keyring is not None:
        if not isinstance(log, Sealing):
            raise BadLogURL(f"the backend for {scheme}: cannot encrypt, and encryption keys are given")
        log.use_keys(keyring)
    return log


def schemes() -> list[str]:
    """Every scheme that `open_log` understands here, sorted."""
    return sorted({*_BUILT_IN, *(entry.name for entry in entry_points(group=GROUP))})


def known() -> str:
    return ", ".join(f"{scheme}:" for scheme in schemes())


def _backend(scheme: str, url: str) -> Backend:
    if scheme in _BUILT_IN:
        module, function = _BUILT_IN[scheme]
        try:
            found = getattr(import_module(module), function)
        except ModuleNotFoundError as error:
            if scheme != "kafka" or not str(error.name).startswith("aiokafka"):
                raise
            raise BadLogURL(f"{scheme}: needs aiokafka, which is not installed: pip install 'eventdb[kafka]'") from None
    else:
        entries: list[EntryPoint] = list(entry_points(group=GROUP, name=scheme))
        if not entries:
            raise BadLogURL(f"no backend for {scheme}: in {discreet(url)!r}; known are {known()}")
        if len({entry.value for entry in entries}) > 1:
            raise BadLogURL(f"{scheme}: is claimed by {', '.join(sorted(entry.value for entry in entries))}")
        try:
            found = entries[0].load()
        except Exception as error:
            raise BadLogURL(f"the backend for {scheme}: ({entries[0].value}) does not load: {error}") from error
    if not isinstance(found, Backend):
        raise BadLogURL(f"the backend for {scheme}: is not a function that takes a URL")
    return found
