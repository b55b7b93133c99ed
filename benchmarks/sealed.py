"""`python -m benchmarks.sealed`: what encryption at rest costs: SET on three zones with keys beside SET without.

Both servers are this tree's; they are measured in turn, so that a busy machine favours neither. What a request takes of
the processor says more there than the rates.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.load import compare
from benchmarks.rows import LoadRow
from benchmarks.servers import EventDB
from eventdb.backends.keyrings import Contents, store

ROWS = (LoadRow("sealed", "set", 50, 1, 0.95), LoadRow("sealed", "set", 50, 16, 0.95))


class Sealed(EventDB):
    """With a keyring of one key."""

    def command(self) -> list[str]:
        contents = Contents()
        contents.active = contents.add()
        url = f"file:{self.folder / 'keys.json'}"
        store(url, contents)
        return [*super().command(), "--encryption-keys", url]


def main() -> int:
    parser = argparse.ArgumentParser(description="SET with keys and without, in turn.")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    missed = 0
    with tempfile.TemporaryDirectory() as directory:
        clear = EventDB(Path(directory) / "clear", label="clear")
        sealed = Sealed(Path(directory) / "sealed", label="sealed")
        try:
            clear.start()
            sealed.start()
            for row in ROWS:
                found = compare(row, clear, sealed, asked.seconds, asked.rounds)
                verdict = "" if found.ratio >= (row.floor or 0) else f" (below {row.floor})"
                missed += bool(verdict)
                rates = f"{found.reference:,.0f} -> {found.candidate:,.0f}/s"
                print(f"{row.name}: {rates}, ratio {found.ratio:.3f}{verdict}; {found.note}")
            print(f"bytes a zone: {clear.log_bytes():,} -> {sealed.log_bytes():,}")
        finally:
            clear.kill()
            sealed.kill()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
