"""The rules of quorum files and of leases, broken on purpose (see mutations.py)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from eventdb.backends.assembler import Assembler
from eventdb.backends.quorum import claim, hint, joining, promise, reader, segment, squeezing, successor, zone
from eventdb.backends.quorum.align import Mark
from eventdb.backends.quorum.claim import Survey
from eventdb.backends.quorum.files import FileOps, write_all
from eventdb.backends.quorum.promise import LostPromise, Promise
from eventdb.backends.quorum.recovery import Tally, Worth
from eventdb.backends.quorum.segment import Segment, list_segments
from eventdb.backends.quorum.segment_file import SegmentFile
from eventdb.backends.quorum.successor import Succession
from eventdb.backends.quorum.view import Damage, Tail, ZoneView
from eventdb.backends.quorum.window import Quorum
from eventdb.backends.quorum.zone import Zone
from eventdb.backends.record import Frame
from eventdb.node.node import Node
from eventdb.node.role import Happening
from eventdb.node.succession import Standing
from eventdb.node.tenure import Tenure


@contextlib.contextmanager
def acknowledge_before_quorum() -> Iterator[None]:
    """One zone is enough."""
    mark = Quorum.mark

    def marked(quorum: Quorum, zone: int, end: int) -> bool:
        majority, quorum.majority = quorum.majority, 1
        try:
            return mark(quorum, zone, end)
        finally:
            quorum.majority = majority

    with patch.object(Quorum, "mark", marked):
        yield


@contextlib.contextmanager
def write_without_sync() -> Iterator[None]:
    """A zone's writes wait for nothing."""
    with patch.object(os, "O_DSYNC", 0):
        yield


@contextlib.contextmanager
def vote_for_what_is_on_its_way() -> Iterator[None]:
    """A zone votes for all that the writer has sealed."""
    mark = Quorum.mark

    def marked(quorum: Quorum, zone: int, end: int) -> bool:
        return mark(quorum, zone, max(end, quorum.window.end))

    with patch.object(Quorum, "mark", marked):
        yield


@contextlib.contextmanager
def try_a_failed_sync_again() -> Iterator[None]:
    """After a sync that failed another one is made, and believed: nothing is written again."""
    write = Zone._write

    def written(zone: Zone, data: bytes, end: int) -> None:
        try:
            write(zone, data, end)
        except OSError:
            at, before = zone._file.byte, zone.end
            if zone._file.fd < 0 or zone.ops.size(zone._file.fd) < at + len(data):
                raise
            zone.ops.fsync(zone._file.fd)
            if zone.promise is None or not zone.promise.holds(zone.ops):
                raise LostPromise from None
            zone.busy_since = 0.0
            zone._file.mark = (at, before)
            zone._file.byte = at + len(data)
            zone.end = end

    with patch.object(Zone, "_write", written):
        yield


@contextlib.contextmanager
def trust_the_page_cache() -> Iterator[None]:
    """What a claim has read is taken for what the disk holds."""

    def nothing(*facts: Any, **more: Any) -> None: ...

    with patch.object(zone, "write_again", nothing), patch.object(claim, "write_again", nothing):
        yield


@contextlib.contextmanager
def late_files_have_a_say() -> Iterator[None]:
    """What was adopted is written again only as far as it may not be synced."""

    def again(*facts: Any, floor: int = 0, last: Mark | None = None) -> None:
        joining.write_again(*facts, last=last)

    with patch.object(zone, "write_again", again), patch.object(claim, "write_again", again):
        yield


@contextlib.contextmanager
def adopt_unlooked() -> Iterator[None]:
    """Nobody looks whether what was adopted is still there when it is written again."""

    def again(*facts: Any, floor: int = 0, last: Mark | None = None) -> None:
        joining.write_again(*facts, floor=floor)

    with patch.object(zone, "write_again", again), patch.object(claim, "write_again", again):
        yield


@contextlib.contextmanager
def try_a_hole_again() -> Iterator[None]:
    """A zone that finds a hole in what it should write again tries the same once more."""

    def again(self: Zone, synced: int) -> None:
        joining.write_again(self.ops, self.directory, self.name, self._quorum.epoch, synced, self.end)
        self._unsynced_from = None

    with patch.object(Zone, "_write_again", again):
        yield


@contextlib.contextmanager
def hint_ahead() -> Iterator[None]:
    """A zone states one record more than is durable."""
    encode = hint.encode

    def encoded(epoch: int, durable_end: int, *facts: int | list[int]) -> bytes:
        return encode(epoch, durable_end + 1, *facts)  # type: ignore[arg-type]

    with patch.object(hint, "encode", encoded):
        yield


@contextlib.contextmanager
def prove_by_what_is_readable() -> Iterator[None]:
    """A reader takes for durable what it can read in a majority of zones."""
    prove = reader.End.prove

    def proven(end: reader.End) -> None:
        with patch.object(reader.End, "prove", prove):
            end.foresee()

    with patch.object(reader.End, "prove", proven):
        yield


@contextlib.contextmanager
def foresee_without_promise() -> Iterator[None]:
    """What is written under a higher promise is taken for what a claim will find."""

    def epochs(ops: FileOps, directory: str) -> list[int]:
        return [segment.epoch for segment in list_segments(ops, directory)][-1:]

    with patch.object(reader, "promises", SimpleNamespace(epochs=epochs)):
        yield


@contextlib.contextmanager
def foresee_by_one_zone() -> Iterator[None]:
    """What any zone holds is taken for what a claim will find."""
    foresee = reader.End.foresee

    def foreseen(end: reader.End) -> None:
        foresee(end)
        tails = [tail for tail in map(reader._tail, end._places) if tail is not None]
        for tail in tails:
            if tail.writer_epoch >= end.epoch:
                end.epoch, end.durable_end = tail.writer_epoch, max(end.durable_end, tail.end)

    with patch.object(reader.End, "foresee", foreseen):
        yield


@contextlib.contextmanager
def skip_promise_check() -> Iterator[None]:
    """A zone counts an append although a later claim has taken the zone."""

    def holds(promise: Promise, ops: FileOps) -> bool:
        return True

    with patch.object(Promise, "holds", holds):
        yield


@contextlib.contextmanager
def check_before_the_write() -> Iterator[None]:
    """A zone looks at its promise and then writes."""
    write = Zone._write

    class Unasked(Promise):
        def holds(self, ops: FileOps) -> bool:
            return True

    def written(zone: Zone, data: bytes, end: int) -> None:
        made = zone.promise
        if made is None or not made.holds(zone.ops):
            raise LostPromise
        zone.promise = Unasked(made.epoch, made.path, made.inode, made.changed_ns)
        try:
            write(zone, data, end)
        finally:
            zone.promise = made

    with patch.object(Zone, "_write", written):
        yield


@contextlib.contextmanager
def share_a_promise() -> Iterator[None]:
    """Two claimants may own one epoch in one zone."""
    with patch.object(promise, "make", partial(promise.make, ours=True)):
        yield


@contextlib.contextmanager
def claim_a_minority() -> Iterator[None]:
    """One zone is enough for a claim."""
    with patch.object(Tally, "majority", property(lambda tally: 1)):
        yield


@contextlib.contextmanager
def read_before_the_promise() -> Iterator[None]:
    """A claim reads the end of a zone, and fences its writer then."""
    early: dict[str, Tail] = {}
    make = promise.make

    def made(ops: FileOps, directory: str, epoch: int) -> Promise:
        with contextlib.closing(ZoneView(ops, directory, "")) as found:
            found.refresh()
            early[directory] = found.tail()
        return make(ops, directory, epoch)

    class Early(ZoneView):
        def tail(self) -> Tail:
            return early.pop(self.directory)

    with patch.object(claim, "promises", SimpleNamespace(make=made, epochs=promise.epochs)):
        ask = claim._promise_all

        def promised(found: Sequence[Survey], epoch: int) -> None:
            with patch.object(claim, "ZoneView", Early):
                ask(found, epoch)

        with patch.object(claim, "_promise_all", promised):
            yield


@contextlib.contextmanager
def skip_adoption() -> Iterator[None]:
    """A claim goes on behind any tail, not behind the best one, and does not look at what is known to be durable."""

    def worst(found: Sequence[Survey]) -> Survey | None:
        counting = [facts for facts in found if facts.worth is Worth.COUNT and facts.tail is not None]
        return min(counting, key=lambda facts: facts.tail.rank if facts.tail is not None else (0, 0), default=None)

    with patch.object(claim, "_best", worst), patch.object(claim, "_floor", lambda found: 0):
        yield


@contextlib.contextmanager
def adopt_the_longest() -> Iterator[None]:
    """The longest tail is the best one, whoever wrote it."""
    with patch.object(Tail, "rank", property(lambda tail: (0, tail.end))):
        yield


@contextlib.contextmanager
def durable_before_the_claim() -> Iterator[None]:
    """What was adopted is durable before this epoch's own record is."""
    mark = Quorum.mark

    def marked(quorum: Quorum, zone: int, end: int) -> bool:
        quorum.claim_end = 0
        return mark(quorum, zone, end)

    with patch.object(Quorum, "mark", marked):
        yield


@contextlib.contextmanager
def read_fenced_records() -> Iterator[None]:
    """What a fenced writer adds to its segment behind the first position of a later epoch counts as history."""

    def every(found: list[Segment]) -> list[Segment]:
        history: list[Segment] = []
        for each in found:
            if history and each.first <= history[-1].first:
                continue
            if history:
                last = history[-1]
                history[-1] = Segment(last.path, last.first, last.epoch, each.first)
            history.append(each)
        return history

    with patch.object(segment, "effective", every):
        yield


@contextlib.contextmanager
def vote_while_rebuilt() -> Iterator[None]:
    """A zone votes while it is being rebuilt."""

    def vote(zone: Zone) -> None:
        if zone._quorum.mark(zone.index, zone.end):
            zone._publish()

    with patch.object(Zone, "_vote", vote):
        yield


@contextlib.contextmanager
def keep_the_votes_of_a_blank_zone() -> Iterator[None]:
    """A zone that forgot what it had keeps its vote."""
    with patch.object(Quorum, "unmark", lambda quorum, zone: None):
        yield


@contextlib.contextmanager
def believe_an_older_copy() -> Iterator[None]:
    """What others know of a zone is not compared with what it holds; nor is its promise with the one that was made."""

    def holds(promise: Promise, ops: FileOps) -> bool:
        try:
            ops.stat(promise.path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    with patch.object(claim, "remembered", lambda *facts: 0), patch.object(Promise, "holds", holds):
        yield


@contextlib.contextmanager
def mix_two_logs() -> Iterator[None]:
    """Whatever directories the URL names are the zones of one log."""
    with patch.object(claim, "refuse_mixture", lambda found: None):
        yield


@contextlib.contextmanager
def join_what_was_fenced() -> Iterator[None]:
    """A record that its writer could not finish is kept, and joined with the next."""

    cut: set[int] = set()
    forget = Assembler._forget

    def check(assembler: Assembler, following: Frame) -> None:
        cut.add(id(assembler))

    def keep(assembler: Assembler) -> None:
        if id(assembler) in cut:
            cut.remove(id(assembler))
        else:
            forget(assembler)

    with patch.object(Assembler, "_check_cut", check), patch.object(Assembler, "_forget", keep):
        yield


@contextlib.contextmanager
def skip_what_is_damaged() -> Iterator[None]:
    """A reader that meets damage goes on after it."""
    read = reader.Reader._read_zone

    def skipped(self: reader.Reader, found: ZoneView, index: int, stop: int) -> object:
        try:
            return read(self, found, index, stop)
        except Damage:
            self.position += 1
            self._seal = -1
            if self.position >= stop:
                raise
            return read(self, found, index, stop)

    with patch.object(reader.Reader, "_read_zone", skipped):
        yield


@contextlib.contextmanager
def show_what_is_older() -> Iterator[None]:
    """A node that stepped down serves whatever the zones show now."""
    serve = Node._serve_reads

    def served(node: Node, event: Happening) -> None:
        node._shown = 0
        serve(node, event)

    with patch.object(Node, "_serve_reads", served):
        yield


@contextlib.contextmanager
def serve_past_the_lease() -> Iterator[None]:
    """A primary answers reads although its lease has lapsed."""
    with patch.object(Tenure, "_lapse", lambda tenure: None):
        yield


@contextlib.contextmanager
def answer_at_once() -> Iterator[None]:
    """A claimant answers although somebody may still hold a lease."""
    with patch.object(Standing, "wait_s", lambda standing: 0.0):
        yield


@contextlib.contextmanager
def believe_a_longer_lease() -> Iterator[None]:
    """A primary counts on a longer lease from the moment it states it, before it is durable."""
    state = Tenure.state

    def stated(tenure: Tenure, *, changed: bool) -> None:
        wanted = tenure._wanted_ms
        if not tenure.lapsed and wanted > tenure.lease_ms:
            tenure.lease_ms = wanted
            tenure.engine.lease_until = tenure._monotonic() + wanted / 1000
        state(tenure, changed=changed)

    with patch.object(Tenure, "state", stated):
        yield


@contextlib.contextmanager
def go_over_to_a_name_that_may_vanish() -> Iterator[None]:
    """A zone writes into the file made ahead alone as soon as it bears its name, be it on the disk or not."""
    with patch.object(successor, "sync_directory", lambda ops, directory: None):
        yield


@contextlib.contextmanager
def name_what_lacks_the_latest() -> Iterator[None]:
    """A file made ahead gets its name while the one before it is written first, and holds more."""

    def write(file: SegmentFile, data: bytes) -> None:
        write_all(file.ops, file.fd, data, file.byte)
        if file.next_fd >= 0:
            write_all(file.ops, file.next_fd, data, file.byte - file.next_base)

    with patch.object(SegmentFile, "write", write):
        yield


@contextlib.contextmanager
def rely_on_a_name_that_was_not_synced() -> Iterator[None]:
    """After a directory's sync that failed, the name it was for is taken for durable."""
    forget = Succession.forget

    def forgotten(succession: Succession) -> None:
        forget(succession)

    with patch.object(Succession, "forget", forgotten):
        yield


@contextlib.contextmanager
def squeeze_over_what_came_meanwhile() -> Iterator[None]:
    """A squeezed segment takes the place of whatever bears its name by then."""

    def put(squeezer: squeezing.Squeezer, aside: str) -> None:
        squeezer._zone.ops.replace(aside, squeezer._segment.path)

    with patch.object(squeezing.Squeezer, "_put_in_place", put):
        yield
