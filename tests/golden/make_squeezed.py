"""Make the golden file of a squeezed segment: minutes of an idle log, and of one with some data.

    python -m tests.golden.make_squeezed

writes `tests/golden/squeezed/`, and refuses when it is there: like all golden files it is made once. `segment` is what
lies in a zone, `expected.json` says what a reader finds in it: bytes, their SHA-256, the number of frames.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from eventdb.backends.quorum.squeezed import Squeezing
from tests.backends.test_squeezed import beats

SQUEEZED = Path(__file__).parent / "squeezed"


def main() -> None:
    SQUEEZED.mkdir()
    frames = beats(2000, 20_261_127) + beats(40, 20_261_128, data=True)
    squeezing = Squeezing()
    squeezing.add(b"".join(frames))
    (SQUEEZED / "segment").write_bytes(squeezing.finish())
    whole = b"".join(frames)
    facts = {"bytes": len(whole), "sha256": hashlib.sha256(whole).hexdigest(), "frames": len(frames)}
    (SQUEEZED / "expected.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
