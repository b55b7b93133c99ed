"""Where access keys come from: a file that is read again when it changes, or a command that is asked for one key.

The command is given the id of the key as its last argument and prints the key's entry as JSON (policies.py), or nothing
when there is no such key. What it printed is kept for KEPT_S, an unknown key for UNKNOWN_S, so that a client with
invented keys starts few processes. It runs in a thread: the client that waits is blocked meanwhile, no other.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from typing import Final

from eventdb.security.iam import Pending, Refused
from eventdb.security.policies import AccessKey, BadKeys, read_keys

KEPT_S: Final = 60.0
UNKNOWN_S: Final = 10.0
COMMAND_S_MAX: Final = 5.0
KNOWN_MAX: Final = 10_000
LOOKUPS_MAX: Final = 8  # at once
PRINTED_BYTES_MAX: Final = 1 << 20


class KeyFile:
    """A JSON file of keys. What does not make sense lets nobody in, and says why with each attempt."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._seen = (-1, -1, -1)
        self._keys: dict[str, AccessKey] = {}
        self._wrong = ""

    def find(self, key_id: str) -> AccessKey | None:
        """See `iam.Keys`."""
        try:
            facts = os.stat(self.path)
            seen = (facts.st_ino, facts.st_mtime_ns, facts.st_size)
            if seen != self._seen:
                with open(self.path, encoding="utf-8") as file:
                    self._keys, self._wrong = read_keys(file.read()), ""
                self._seen = seen
        except (OSError, BadKeys, UnicodeDecodeError) as error:
            self._keys, self._seen = {}, (-1, -1, -1)
            self._wrong = f"the access keys in {self.path} cannot be read: {_said(error)}"
        if self._wrong:
            raise Refused(self._wrong)
        return self._keys.get(key_id)


class KeyCommand:
    """A command that is asked for one key at a time."""

    def __init__(self, command: str) -> None:
        self.command = shlex.split(command)
        self._known: dict[str, tuple[float, AccessKey | None, str]] = {}  # until when, and what is wrong
        self._asked: set[str] = set()

    def find(self, key_id: str) -> AccessKey | None:
        """See `iam.Keys`."""
        found = self._known.get(key_id)
        if found is not None and time.monotonic() < found[0]:
            if found[2]:
                raise Refused(found[2])
            return found[1]
        if len(self._asked) >= LOOKUPS_MAX and key_id not in self._asked:
            raise Refused("too many access keys are being looked up")
        self._asked.add(key_id)
        raise Pending(lambda: self._look_up(key_id))

    def _look_up(self, key_id: str) -> None:
        key, wrong = None, ""
        try:
            key = self._ask(key_id)
        except (OSError, BadKeys, subprocess.SubprocessError, UnicodeDecodeError) as error:
            wrong = f"the command that knows access keys failed: {_said(error)}"
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[key_id] = (time.monotonic() + (KEPT_S if key is not None else UNKNOWN_S), key, wrong)
        self._asked.discard(key_id)

    def _ask(self, key_id: str) -> AccessKey | None:
        if not key_id.isalnum():  # it becomes an argument
            return None
        done = subprocess.run(
            [*self.command, key_id], stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_S_MAX, check=False
        )
        if done.returncode != 0:
            raise BadKeys(f"it ended with {done.returncode}")
        if len(done.stdout) > PRINTED_BYTES_MAX:
            raise BadKeys(f"it printed more than {PRINTED_BYTES_MAX} bytes")
        text = done.stdout.decode()
        return read_keys(text).get(key_id) if text.strip() else None


def _said(error: Exception) -> str:
    """What went wrong, without what was printed: that may hold a secret."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer within {COMMAND_S_MAX:.0f} s"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error) if isinstance(error, BadKeys) else type(error).__name__
