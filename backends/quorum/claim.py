"""Claiming the log: fence every earlier writer, then find what has to be adopted.

Survey: read every zone's identity, create a new log if every zone is blank. Promise: take a higher epoch than any
seen, in every zone that answers. Read: where the promise is ours, read the end of history. Judge:
`recovery.py` says what may be done. All of it blocks, each zone in a thread of its own, so that a hanging zone
costs its own answer and nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from eventdb.backends.assembler import unopened
from eventdb.backends.log import BadLogURL, Corrupt, Fenced, LogError, Unavailable
from eventdb.backends.quorum import hint as hints
from eventdb.backends.quorum import identity as identities
from eventdb.backends.quorum import promise as promises
from eventdb.backends.quorum.align import Mark, mark_of
from eventdb.backends.quorum.files import FileOps
from eventdb.backends.quorum.hint import Hint
from eventdb.backends.quorum.identity import DamagedIdentity, Identity
from eventdb.backends.quorum.joining import Changed, write_again
from eventdb.backends.quorum.promise import Outbid, Promise
from eventdb.backends.quorum.recovery import Hold, Memory, Move, Presence, Tally, Worth, judge_log, judge_zone
from eventdb.backends.quorum.runtime import PROCESS, Runtime
from eventdb.backends.quorum.segment import list_segments
from eventdb.backends.quorum.view import Damage, Tail, ZoneView
from eventdb.backends.seal import Keyring

ANSWER_S_MAX: Final = 3.0  # how long a claim waits for a majority to answer
WRITE_S_MAX: Final = 30.0  # for the end of what is adopted: a segment at most, where no hint was left
GRACE_S: Final = 0.3  # and then for the rest
TRIES_MAX: Final = 6

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Place:
    """One zone as the URL gives it."""

    ops: FileOps
    directory: str
    name: str
    index: int
    runtime: Runtime = PROCESS  # the process that looks at it


@dataclass(slots=True)
class Survey:
    """What a claim learned of one zone."""

    place: Place
    presence: Presence = Presence.UNREACHABLE
    hold: Hold = Hold.NONE
    memory: Memory = Memory.NONE
    worth: Worth = Worth.ABSENT
    why: str = "no answer"
    identity: Identity | None = None
    epoch: int = 0  # the highest seen in promises and segments
    empty: bool = True  # neither promise nor segment
    promise: Promise | None = None
    tail: Tail | None = None
    hint: Hint | None = None


@dataclass(frozen=True, slots=True)
class Claimed:
    """A majority is promised to `epoch`, and `source` holds the tail to adopt, in a segment of this epoch."""

    epoch: int
    log_id: str
    source: int
    tail: Tail
    floor: int  # what lies before it is known to be durable
    facts: Sequence[Survey]


def ask_each(
    places: Sequence[Place], question: Callable[[Place], Answer], enough: int, wait_s: float = ANSWER_S_MAX
) -> dict[int, Answer | Exception]:
    """Ask the zones at once; by index, without those that did not answer in time."""
    answers: dict[int, Answer | Exception] = {}
    if not places:
        return answers
    runtime = places[0].runtime
    monotonic = runtime.monotonic
    changed = runtime.changed()

    def ask(place: Place) -> None:
        answer: Answer | Exception
        try:
            answer = question(place)
        except Exception as error:
            answer = error
        with changed:
            answers[place.index] = answer
            changed.notify_all()

    for place in places:
        runtime.thread(partial(ask, place), f"eventdb-ask-{place.name}").start()

    def good() -> int:
        return sum(1 for answer in answers.values() if not isinstance(answer, Exception))

    deadline = monotonic() + wait_s
    with changed:
        while len(answers) < len(places) and good() < enough and (left := deadline - monotonic()) > 0:
            changed.wait(left)
        deadline = min(deadline, monotonic() + GRACE_S) if good() >= enough else deadline
        while len(answers) < len(places) and (left := deadline - monotonic()) > 0:
            changed.wait(left)
        return dict(answers)


def survey(place: Place) -> Survey:
    """Who is this zone? Raises OSError."""
    facts = Survey(place)
    try:
        facts.identity = identities.load(place.ops, place.directory)
        facts.why = "" if facts.identity is not None else "blank"
    except DamagedIdentity as error:
        facts.why = f"{error}"
    facts.presence = Presence.BLANK if facts.identity is None else Presence.MEMBER
    segments = list_segments(place.ops, place.directory)
    promised = promises.epochs(place.ops, place.directory)
    facts.empty = not segments and not promised
    facts.epoch = max([0, *promised, *(segment.epoch for segment in segments)])
    facts.hint = hints.load(place.ops, place.directory)
    if facts.hint is not None:
        facts.epoch = max(facts.epoch, facts.hint.epoch)
    return facts


def survey_all(places: Sequence[Place]) -> list[Survey]:
    """Every zone's facts, checked against each other. Raises BadLogURL when they do not belong together."""
    found: list[Survey] = []
    answers = ask_each(places, survey, len(places) // 2 + 1)
    for place in places:
        answer = answers.get(place.index)
        if isinstance(answer, Survey):
            found.append(answer)
        elif isinstance(answer, OSError) or answer is None:
            found.append(Survey(place, why=str(answer) if answer is not None else "no answer"))
        else:
            raise answer
    refuse_mixture(found)
    return found


def refuse_mixture(found: Sequence[Survey]) -> None:
    """Raise BadLogURL if the directories are not the zones of one log, in this order."""
    ids = {facts.identity.log_id for facts in found if facts.identity is not None}
    if len(ids) > 1:
        owners = ", ".join(f"{f.place.name} of {f.identity.log_id[:8]}" for f in found if f.identity is not None)
        raise BadLogURL(f"these directories belong to different logs: {owners}")
    for facts in found:
        identity = facts.identity
        if identity is None:
            continue
        if identity.zones != len(found):
            raise BadLogURL(
                f"{facts.place.name}: this log was created with {identity.zones} zones, the URL names {len(found)};"
                f" with one directory write ?zones={identity.zones}"
            )
        if identity.zone != facts.place.index:
            raise BadLogURL(
                f"{facts.place.name} is zone {identity.zone + 1} of its log and stands in place"
                f" {facts.place.index + 1}: name the directories in the order in which the log was created"
            )


def log_id_of(found: Sequence[Survey]) -> str | None:
    return next((facts.identity.log_id for facts in found if facts.identity is not None), None)


def is_new(found: Sequence[Survey]) -> bool:
    """True when nothing was ever written: all blank, or a creation that did not come to its end."""
    return all(facts.presence is not Presence.UNREACHABLE and facts.empty for facts in found)


def create(found: Sequence[Survey]) -> None:
    """Give every zone its identity. The first zone decides between two that create at once.

    A claim that finds it made for another number of zones makes none of the others: they would belong to nobody's log.
    Raises BadLogURL, Unavailable.
    """
    log_id = identities.new_log_id()
    for facts in found:
        place = facts.place
        try:
            if not identities.create(place.ops, place.directory, Identity(log_id, place.index, len(found))):
                there = facts.identity = identities.load(place.ops, place.directory)
                if place.index == 0:
                    refuse_mixture(found)
                if there is None or (place.index and there.log_id != log_id):
                    raise Unavailable(f"{place.name}: another log is being created here; try again")
                log_id = there.log_id
        except (OSError, DamagedIdentity) as error:
            raise Unavailable(f"a new log needs all its zones once, and {place.name} fails: {error}") from error


def claim_epoch(places: Sequence[Place], keys: Keyring | None = None) -> Claimed:
    """Fence and read. Raises BadLogURL, Unavailable, Corrupt, Fenced (others were faster, as often as it tried).

    keys: what is sealed with one of them must open.
    """
    for attempt in range(TRIES_MAX):
        found = survey_all(places)
        if is_new(found) and any(facts.identity is None for facts in found):
            create(found)
            found = survey_all(places)
        _refuse_in_vain(found)
        epoch = 1 + max(facts.epoch for facts in found)
        _promise_all(found, epoch)
        _judge_memories(found)
        if keys is not None:
            _judge_seals(found, keys)
        floor = _floor(found)
        try:
            move, source = _judge(found, floor)
            while move is Move.ADOPT and source is not None:
                if _made_ours(source, epoch, floor, found):
                    log_id = log_id_of(found)
                    assert source.tail is not None and log_id is not None
                    return Claimed(epoch, log_id, source.place.index, source.tail, floor, found)
                move, source = _judge(found, floor)
        except Changed:
            move = Move.LOST_RACE
        if move is not Move.LOST_RACE:
            raise _refusal(move, found, floor)
        places[0].runtime.sleep(random.uniform(0.001, 0.004) * (1 << attempt))  # let one of the two get through
    raise Fenced(f"lost {TRIES_MAX} races against other claims: {_describe(found)}")


def _refuse_in_vain(found: Sequence[Survey]) -> None:
    """Raise Unavailable where no majority can promise: a promise closes its zone to the writer that lives.

    It stays closed until somebody claims, so no promise is made that cannot lead to a claim.
    """
    others = [facts for facts in found if facts.presence is not Presence.MEMBER]
    if len(found) - len(others) > len(found) // 2:
        return
    for facts in others:
        facts.worth = judge_zone(facts.presence, facts.hold, facts.memory)
    raise _refusal(Move.UNAVAILABLE, others, _floor(found))


def _promise_all(found: Sequence[Survey], epoch: int) -> None:
    members = [facts for facts in found if facts.presence is Presence.MEMBER]

    def hold(place: Place) -> tuple[Promise, Tail, Hint | None]:
        promise = promises.make(place.ops, place.directory, epoch)
        tail, hint = _tail_of(place)
        if not promise.holds(place.ops):  # read half before and half after a higher claim wrote: no damage
            raise Outbid(max([epoch, *promises.epochs(place.ops, place.directory)]))
        return promise, tail, hint

    answers = ask_each([facts.place for facts in members], hold, len(found) // 2 + 1)
    for facts in members:
        answer = answers.get(facts.place.index)
        if isinstance(answer, tuple):
            facts.hold = Hold.OWNED
            facts.promise, facts.tail, facts.hint = answer
        elif isinstance(answer, Outbid):
            facts.hold, facts.why = Hold.OUTBID, f"{answer}"
        elif answer is None or isinstance(answer, (OSError, Damage)):
            facts.presence, facts.why = Presence.UNREACHABLE, str(answer) if answer is not None else "no answer"
        else:
            raise answer


def _tail_of(place: Place) -> tuple[Tail, Hint | None]:
    view = ZoneView(place.ops, place.directory, place.name)
    try:
        view.refresh()
        hint = hints.load(place.ops, place.directory)
        view.mark(hint)
        return view.tail(), hint
    finally:
        view.close()


def _judge_memories(found: Sequence[Survey]) -> None:
    for facts in found:
        if facts.hold is not Hold.OWNED or facts.tail is None:
            continue
        known = remembered(found, facts.place.index, facts.tail.writer_epoch)
        if facts.tail.alleged > facts.tail.end:
            facts.memory = Memory.DAMAGED
            facts.why = f"ends at position {facts.tail.end} ({facts.tail.torn}), but had {facts.tail.alleged}"
        elif facts.tail.end < known:
            own = facts.hint is not None and facts.hint.synced[facts.place.index] >= known
            facts.memory = Memory.DAMAGED if own else Memory.STALE
            facts.why = f"ends at position {facts.tail.end}, but had synced {known}: an older copy, or damage"
        else:
            facts.memory = Memory.WHOLE


def _judge_seals(found: Sequence[Survey], keys: Keyring) -> None:
    """Nobody without the keys ends a sealed history: the seal of its last frame covers the link to all before it.

    A history that ends in the clear is none after one that ends sealed. Such a zone was tampered with, and is rebuilt.
    """
    there = keys.ids()
    tails = [(facts, facts.tail, facts.tail.last) for facts in found if facts.tail is not None]
    sealed: list[tuple[int, int]] = []
    for facts, tail, last in tails:
        if last is not None and last.key_id in there and facts.memory is Memory.WHOLE:
            why = unopened([last], keys)
            if why:
                facts.memory, facts.why = Memory.DAMAGED, why
            else:
                sealed.append((tail.end, last.epoch))
    for facts, tail, last in tails:
        if last is None or last.key_id or facts.memory is not Memory.WHOLE:
            continue
        if any(end <= tail.end or epoch < last.epoch for end, epoch in sealed):
            facts.memory, facts.why = Memory.DAMAGED, f"position {last.position}: not encrypted, and other zones are"


def remembered(found: Sequence[Survey], zone: int, writer_epoch: int) -> int:
    """The highest end that a hint of the latest epoch says this zone had synced.

    0 when a later writer than that has begun a segment here: it may have cut what was never acknowledged.
    """
    latest = max((facts.hint.epoch for facts in found if facts.hint is not None), default=0)
    if writer_epoch > latest:
        return 0
    return max(
        (
            facts.hint.synced[zone]
            for facts in found
            if facts.hint is not None and facts.hint.epoch == latest and zone < len(facts.hint.synced)
        ),
        default=0,
    )


def _judge(found: Sequence[Survey], floor: int) -> tuple[Move, Survey | None]:
    """What the claim may do with these zones, and which one's history it adopts if it may."""
    for facts in found:
        facts.worth = judge_zone(facts.presence, facts.hold, facts.memory)
    source = _best(found)
    while source is not None and not _delivers(source, found):
        source.worth = judge_zone(source.presence, source.hold, source.memory)
        source = _best(found)
    reached = source is not None and source.tail is not None and source.tail.end >= floor
    count, lost, hurt = (_count(found, worth) for worth in (Worth.COUNT, Worth.LOST, Worth.HURT))
    return judge_log(Tally(len(found), count, lost, hurt, reached)), source


def _made_ours(source: Survey, epoch: int, floor: int, found: Sequence[Survey]) -> bool:
    """Write the end of what is adopted again (`joining.write_again`). False: the zone could not; its facts say why.

    From here on nobody but a higher claim can change what was adopted. Raises Changed: a fenced writer was faster.
    """
    tail = source.tail
    assert tail is not None
    synced = remembered(found, source.place.index, tail.writer_epoch)

    def write(place: Place) -> None:
        write_again(place.ops, place.directory, place.name, epoch, synced, tail.end, floor=floor, last=_mark(tail))

    return _done(source, write, WRITE_S_MAX)


def _done(source: Survey, work: Callable[[Place], None], wait_s: float = ANSWER_S_MAX) -> bool:
    """Whether the zone could do that with its history; if not, its facts say why. Raises Changed."""
    tail = source.tail
    assert tail is not None

    def tried(place: Place) -> None:
        try:
            work(place)
        except Damage:
            there = _tail_of(place)[0]
            if (there.end, _mark(there)) != (tail.end, _mark(tail)):  # no loss: what came late leaves a gap
                raise Changed(place.name, tail.end - 1) from None
            raise

    answer = ask_each([source.place], tried, 1, wait_s).get(source.place.index, OSError("no answer"))
    if isinstance(answer, Damage):
        source.memory, source.why = Memory.DAMAGED, f"{answer}"
    elif isinstance(answer, OSError):
        source.presence, source.why = Presence.UNREACHABLE, f"{answer}"
    elif isinstance(answer, Exception):
        raise answer
    return answer is None


def _mark(tail: Tail) -> Mark | None:
    return mark_of(tail.last) if tail.last is not None else None


def _best(found: Sequence[Survey]) -> Survey | None:
    best: Survey | None = None
    for facts in found:
        if facts.worth is Worth.COUNT and facts.tail is not None:
            if best is None or best.tail is None or facts.tail.rank > best.tail.rank:
                best = facts
    return best


def _delivers(source: Survey, found: Sequence[Survey]) -> bool:
    """Whether the zone with the best tail can show what a majority needs of it; if not, its facts say why.

    A tail is judged by its end; what lies before may be gone where a disk forgot what it had synced. Nobody else can
    be brought up to such a tail, so it is no better than a torn one.
    """
    ends = sorted(facts.tail.end for facts in found if facts.worth is Worth.COUNT and facts.tail is not None)
    majority = len(found) // 2 + 1
    tail = source.tail
    assert tail is not None
    low = max(ends[-majority] - 1 if len(ends) >= majority else tail.end, tail.first)
    if low >= tail.end - 1:
        return True  # the last frame was read, and more is not needed

    def read(place: Place) -> None:
        view = ZoneView(place.ops, place.directory, place.name)
        try:
            view.refresh()
            position = low
            while position < tail.end:
                chunk = view.read(position, tail.end)
                if not chunk.frames:
                    raise Damage(place.name, "-", position, 0, "history ends here")
                position = chunk.next_position
        finally:
            view.close()

    return _done(source, read)


def _floor(found: Sequence[Survey]) -> int:
    """The highest end that anything proves durable; what a client may have made a zone say proves nothing."""
    floor = 0
    for facts in found:
        if facts.hint is not None:
            floor = max(floor, facts.hint.durable_end)
        if facts.tail is not None:
            floor = max(floor, facts.tail.proven)
    return floor


def _count(found: Sequence[Survey], worth: Worth) -> int:
    return sum(1 for facts in found if facts.worth is worth)


def _describe(found: Sequence[Survey]) -> str:
    return "; ".join(
        f"{facts.place.name}: {facts.worth.value}{', ' + facts.why if facts.why else ''}" for facts in found
    )


def _refusal(move: Move, found: Sequence[Survey], floor: int) -> LogError:
    if move is Move.UNAVAILABLE:
        short = f"history is durable up to position {floor}, and " if floor else ""
        return Unavailable(f"{short}no majority of zones has all of it: {_describe(found)}")
    hurt = [(facts, facts.tail) for facts in found if facts.worth is Worth.HURT and facts.tail is not None]
    names = [f"{facts.place.name}: segment {_last_segment(facts)}: {_lacking(facts, tail)}" for facts, tail in hurt]
    floor = max([floor, *(tail.alleged for _facts, tail in hurt)])
    return Corrupt(f"durable history up to position {floor} cannot be read: {'; '.join(names)}")


def _lacking(facts: Survey, tail: Tail) -> str:
    if tail.alleged > tail.end or tail.torn:
        return f"position {tail.end}: {tail.torn or 'missing'}"
    return facts.why


def _last_segment(facts: Survey) -> str:
    place = facts.place
    view = ZoneView(place.ops, place.directory, place.name)
    try:
        view.refresh()
    except OSError:
        return "?"
    segment = view.segment_of(facts.tail.end if facts.tail is not None else 0)
    return segment.name if segment is not None else "?"
