"""The scrubber: a live writer reads its zones' sealed segments again and again, slowly.

A byte that rots in one zone harms nobody as long as another zone has it; so it has to be found before the
other one is lost. It reads the disk, not the page cache, which may be right where the disk is wrong (a network or FUSE
file system may ignore that). Damage is reported to the zone, which rebuilds the segment from the others. What it has
read of a segment that is little more than heartbeats is written small on the way (`squeezing.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from eventdb.backends.quorum.runtime import PROCESS, Runtime
from eventdb.backends.quorum.segment import NO_STOP, Segment
from eventdb.backends.quorum.squeezing import Squeezer, drop_leftovers
from eventdb.backends.quorum.view import Damage, ZoneView
from eventdb.backends.quorum.window import Quorum
from eventdb.backends.quorum.zone import UP, Zone

STEP_BYTES: Final = 128 << 10
REST_FACTOR: Final = 50  # rest this much longer than a step took: 2 % of one core and of the disk
REST_S_MIN: Final = 0.01
ROUND_S: Final = 3600.0  # from the end of one round of a zone to its next
LOOK_S: Final = 1.0  # between two looks at a zone that does not serve yet


class Scrubber:
    def __init__(self, zones: Sequence[Zone], quorum: Quorum, runtime: Runtime = PROCESS) -> None:
        self._zones = zones
        self._quorum = quorum
        self._monotonic = runtime.monotonic
        self._stop = runtime.flag()
        self._thread = runtime.thread(self._run, "eventdb-scrub")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        due = [self._monotonic()] * len(self._zones)
        pause_s = REST_S_MIN
        while not self._stop.wait(pause_s):
            pause_s = LOOK_S
            for index, zone in enumerate(self._zones):
                if zone.state == UP and self._monotonic() >= due[index]:
                    self._zone(zone)
                    due[index] = self._monotonic() + ROUND_S

    def _zone(self, zone: Zone) -> None:
        view = ZoneView(zone.ops, zone.directory, zone.name, from_disk=True)
        try:
            drop_leftovers(zone.ops, zone.directory)
            view.refresh()
            for segment in view.segments:
                if segment.stop != NO_STOP and not self._segment(zone, view, segment):
                    return
        except OSError:
            return  # the zone itself will meet it
        finally:
            view.close()

    def _segment(self, zone: Zone, view: ZoneView, segment: Segment) -> bool:
        """Read one segment to its end; False when we should stop."""
        position = segment.first
        squeezer = Squeezer.begin(zone, segment, self._quorum.durable_end)
        while position < segment.stop:
            began = self._monotonic()
            try:
                chunk = view.read(position, segment.stop, STEP_BYTES)
                position = chunk.next_position
                if squeezer is not None:
                    squeezer.add(chunk.raw)
            except Damage as damage:
                zone.report_damage(damage.segment)  # which looks again: it may have been trimmed meanwhile
                return not self._stop.is_set()
            if self._stop.wait(max(REST_S_MIN, REST_FACTOR * (self._monotonic() - began))):
                return False
        if squeezer is not None:
            squeezer.finish()
        return True
