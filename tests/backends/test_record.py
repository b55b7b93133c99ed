"""The record frame: every cut and every flipped byte of it is noticed, and no body grows past what it says."""

import random

import google_crc32c
import pytest
import zstandard

from eventdb.backends.assembler import Assembler
from eventdb.backends.record import (
    CODEC_ZSTD,
    FIRST,
    HEADER_BYTES,
    LAST,
    MIDDLE,
    WHOLE,
    BadFrame,
    Encoder,
    Frame,
    decode,
)


def encode(body: bytes, *, limit: int = 1000, epoch: int = 3, position: int = 7, first_offset: int = 11) -> list[bytes]:
    return Encoder(limit).encode(
        body,
        kind=0,
        epoch=epoch,
        position=position,
        durable_end=5,
        first_offset=first_offset,
        count=2,
        time_ms=1_700_000_000_000,
    )


def decoded(raw: bytes) -> Frame:
    frame = decode(raw)
    assert frame is not None
    return frame


@pytest.mark.parametrize("body", [b"", b"x", b"short", b"long " * 200, random.Random(1).randbytes(900)])
def test_a_frame_comes_back_with_every_field(body: bytes) -> None:
    (raw,) = encode(body)
    frame = decoded(raw)
    assert (frame.kind, frame.fragment, frame.epoch, frame.position) == (0, WHOLE, 3, 7)
    assert (frame.first_offset, frame.count, frame.time_ms, frame.key_id) == (11, 2, 1_700_000_000_000, 0)
    assert (frame.raw_length, frame.size, frame.in_flight, frame.durable_below) == (len(body), len(raw), 2, 5)
    record = Assembler().feed(frame, 9)
    assert record is not None
    assert (record.body, record.position, record.last_offset) == (body, 9, 12)


def test_compression_is_used_only_where_it_shrinks() -> None:
    assert decoded(encode(b"long " * 100)[0]).codec == CODEC_ZSTD
    assert decoded(encode(random.Random(2).randbytes(500))[0]).codec == 0
    assert len(encode(random.Random(2).randbytes(500))[0]) == 500 + HEADER_BYTES


def test_every_cut_of_a_frame_is_incomplete_and_never_a_frame() -> None:
    (raw,) = encode(b"the body of a record")
    for cut in range(len(raw)):
        assert decode(raw[:cut]) is None or cut == 0
    assert decoded(raw + b"more").size == len(raw)


def test_every_flipped_bit_of_a_frame_is_noticed() -> None:
    (raw,) = encode(b"the body of a record")
    for at in range(len(raw)):
        for bit in range(8):
            damaged = bytearray(raw)
            damaged[at] ^= 1 << bit
            try:
                frame = decode(bytes(damaged))
            except BadFrame:
                continue
            assert frame is None, f"byte {at}, bit {bit}"  # a length that asks for more than there is


def test_a_newer_format_is_named_and_not_taken_for_damage() -> None:
    (raw,) = encode(b"from the future")
    covered = bytes([3]) + raw[9:]  # byte 8 is the version; the checksum before it covers all of this
    with pytest.raises(BadFrame, match="format version 3; this program reads 1 to 2"):
        decode(raw[:4] + google_crc32c.value(covered).to_bytes(4, "little") + covered)


@pytest.mark.parametrize(("size", "kinds"), [(1000, [WHOLE]), (1001, [FIRST, LAST]), (2500, [FIRST, MIDDLE, LAST])])
def test_a_large_record_is_whole_only_with_its_last_fragment(size: int, kinds: list[int]) -> None:
    body = random.Random(size).randbytes(size)
    frames = [decoded(raw) for raw in encode(body)]
    assert [frame.fragment for frame in frames] == kinds
    assert [frame.position for frame in frames] == list(range(7, 7 + len(frames)))
    assembler = Assembler()
    for frame in frames[:-1]:
        assert assembler.feed(frame, frame.position) is None
        assert assembler.pending
        assert frame.next_offset == 11
    record = assembler.feed(frames[-1], frames[-1].position)
    assert record is not None
    assert record.body == body
    assert frames[-1].next_offset == 13
    assert not assembler.pending


def test_fragments_cut_off_by_a_new_epoch_are_discarded() -> None:
    lost = [decoded(raw) for raw in encode(random.Random(1).randbytes(2500))]
    (kept,) = (decoded(raw) for raw in encode(b"kept", epoch=4, position=9))
    for seen in (1, 2):
        assembler = Assembler()
        for frame in lost[:seen]:
            assembler.feed(frame, frame.position)
        record = assembler.feed(kept, kept.position)
        assert record is not None
        assert record.body == b"kept"


def test_fragments_that_do_not_belong_together_are_refused() -> None:
    one = [decoded(raw) for raw in encode(random.Random(1).randbytes(2500))]
    two = [decoded(raw) for raw in encode(random.Random(2).randbytes(2600), position=20, first_offset=30)]
    cases = {
        "a middle is missing": [one[0], one[2]],
        "another record's end": [one[0], one[1], two[2]],
        "the same fragment twice": [one[0], one[1], one[1]],
        "cut off inside its own epoch": [one[0], two[0]],
        "no beginning after a whole record": [*two, one[1]],
    }
    for name, frames in cases.items():
        assembler = Assembler()
        *good, bad = frames
        for frame in good:
            assembler.feed(frame, frame.position)
        try:
            assembler.feed(bad, bad.position)
        except BadFrame:
            continue
        pytest.fail(name)


def test_a_reader_may_begin_inside_a_record_and_skips_its_rest() -> None:
    frames = [decoded(raw) for raw in encode(random.Random(1).randbytes(2500))]
    (after,) = (decoded(raw) for raw in encode(b"after", position=10))
    assembler = Assembler()
    assert assembler.feed(frames[1], 8) is None
    assert assembler.feed(frames[2], 9) is None
    assert assembler.feed(after, 10) is not None


@pytest.mark.parametrize("said", [0, 10, 99_999, 100_001, (1 << 32) - 1])
def test_a_compressed_body_never_grows_past_what_the_header_says(said: int) -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(100_000))
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100_000))
    for payload in (bomb, unsized, b"no zstd at all"):
        frame = Frame(0, WHOLE, CODEC_ZSTD, 0, 1, 0, 1, 0, 1, said, 0, payload)
        with pytest.raises(BadFrame):
            Assembler().feed(frame, 0)


def test_an_encrypted_record_without_its_key_is_named() -> None:
    frame = Frame(0, WHOLE, 0, 5, 1, 0, 1, 0, 1, 4, 0, b"body")
    with pytest.raises(BadFrame, match="key 5"):
        Assembler().feed(frame, 0)
