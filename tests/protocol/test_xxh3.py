"""XXH3: every way that a length takes, against what the reference implementation says."""

from __future__ import annotations

import pytest

from eventdb.protocol.xxh3 import digest

PATTERN = bytes(i * 7 % 256 for i in range(5000))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, "2d06800538d394c2"), (1, "c44bdff4074eecdb"), (3, "c3489259e968ad9e"), (4, "d3d60c1519014e89"),
        (8, "b88dee77f6bf6980"), (9, "03688dcad730d826"), (16, "9da23836adf2be1e"), (17, "f34c3c9cf5a112d1"),
        (32, "99cb9ad0f1a11fbe"), (33, "c077b45492d29cde"), (64, "6efb76ff16f37561"), (65, "2640848e9137156b"),
        (96, "764d2d5db92942df"), (97, "077acb7e5f4fd940"), (128, "65f3c2c00fa93185"), (129, "28065c6ec25f5b25"),
        (160, "cc592da68fea2254"), (240, "4917a75c0ef8eed7"), (241, "541b19226f0052e8"), (256, "ff5a1cefade75bb9"),
        (1024, "dc5acf0b043c445b"), (1025, "e1d9cd946277ae26"), (2048, "848d24cc268f7498"), (2049, "c757a52bb931999d"),
        (4096, "8fb047a89e810965"), (5000, "6abe8be5abcb2760"),
    ],
)  # fmt: skip
def test_a_pattern_of_any_length(size: int, expected: str) -> None:
    assert digest(PATTERN[:size]) == expected.encode()
