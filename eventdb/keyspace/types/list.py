"""Lists: a sequence of byte strings, quick at both ends and in the middle.

Two Python lists that meet: `front`, stored back to front, and `back`. Both ends are the end of an array, so pushes
and pops cost O(1); an element in the middle is found by arithmetic, where Redis walks a quicklist. When a
pop finds its side empty, half of the other side moves over, which a later pop pays back: amortised O(1) in any mix.
Source of the commands' meaning: redis src/t_list.c.
"""

from __future__ import annotations

from typing import Final

from eventdb.keyspace.databases import Db
from eventdb.keyspace.events import KEY_FIRST_TWO, event
from eventdb.keyspace.value import Limits, Value, digest_of

SHIFT_MAX: Final = 32  # up to this size, taking the first element of an array is as quick as moving half of it


class ListValue(Value):
    def __init__(self) -> None:
        self.front: list[bytes] = []  # the head of the list is the last element
        self.back: list[bytes] = []

    def type_name(self) -> bytes:
        return b"list"

    def encoding(self, limits: Limits) -> bytes:
        return b"quicklist"

    def size(self) -> int:
        return len(self.front) + len(self.back)

    def copy(self) -> ListValue:
        made = ListValue()
        made.front = self.front.copy()
        made.back = self.back.copy()
        return made

    def digest(self) -> int:
        return digest_of(self.slice(0, self.size()))

    # -- reading; an index is in [0, size)

    def get(self, index: int) -> bytes:
        front = self.front
        n = len(front)
        return front[n - 1 - index] if index < n else self.back[index - n]

    def slice(self, start: int, stop: int) -> list[bytes]:
        """The elements of [start, stop), from head to tail."""
        front = self.front
        n = len(front)
        if start >= n:
            return self.back[start - n : stop - n]
        found = front[max(0, n - stop) : n - start]
        found.reverse()
        if stop > n:
            found += self.back[: stop - n]
        return found

    def find(self, element: bytes, start: int, stop: int) -> int:
        """Index of the first equal element in [start, stop), or -1."""
        front = self.front
        n = len(front)
        for i in range(n - 1 - start, max(-1, n - 1 - stop), -1):
            if front[i] == element:
                return n - 1 - i
        if stop > n:
            try:
                return n + self.back.index(element, max(0, start - n), stop - n)
            except ValueError:
                return -1
        return -1

    def find_last(self, element: bytes, start: int, stop: int) -> int:
        """Index of the last equal element in [start, stop), or -1."""
        back = self.back
        n = len(self.front)
        for i in range(stop - n - 1, max(-1, start - n - 1), -1):
            if back[i] == element:
                return n + i
        if start < n:
            try:
                return n - 1 - self.front.index(element, max(0, n - stop), n - start)
            except ValueError:
                return -1
        return -1

    def has(self, element: bytes) -> bool:
        return element in self.front or element in self.back

    # -- changing, by apply functions only

    def pop_left(self) -> bytes:
        front = self.front
        if not front:
            back = self.back
            if len(back) <= SHIFT_MAX:
                return back.pop(0)
            self._balance()
            front = self.front
        return front.pop()

    def pop_right(self) -> bytes:
        back = self.back
        if not back:
            front = self.front
            if len(front) <= SHIFT_MAX:
                return front.pop(0)
            self._balance()
            back = self.back
        return back.pop()

    def _balance(self) -> None:
        """Move half of the full side to the empty one."""
        if self.front:
            half = len(self.front) // 2 + 1
            self.back = self.front[:half]
            self.back.reverse()
            del self.front[:half]
        else:
            half = len(self.back) // 2 + 1
            self.front = self.back[:half]
            self.front.reverse()
            del self.back[:half]

    def insert(self, index: int, element: bytes) -> None:
        """Insert before `index`; `index` may be the size."""
        n = len(self.front)
        if index < n:
            self.front.insert(n - index, element)
        else:
            self.back.insert(index - n, element)

    def put(self, index: int, element: bytes) -> None:
        n = len(self.front)
        if index < n:
            self.front[n - 1 - index] = element
        else:
            self.back[index - n] = element

    def drop_left(self, count: int) -> None:
        """Remove `count` elements at the head; there are as many."""
        n = len(self.front)
        if count < n:
            del self.front[n - count :]
        else:
            self.front, self.back = _halves(self.back, count - n)

    def drop_right(self, count: int) -> None:
        """Remove `count` elements at the tail; there are as many."""
        n = len(self.back)
        if count < n:
            del self.back[n - count :]
        else:
            self.back, self.front = _halves(self.front, count - n)

    def remove(self, element: bytes, count: int) -> None:
        """Remove elements equal to this one: the first `count`, the last -`count`, or all when it is 0."""
        left = abs(count) or self.size()
        if count >= 0:
            if element in self.front:
                found = self.front[::-1]
                left = _remove_from(found, element, left)
                found.reverse()
                self.front = found
            if left:
                _remove_from(self.back, element, left)
        else:
            if element in self.back:
                found = self.back[::-1]
                left = _remove_from(found, element, left)
                found.reverse()
                self.back = found
            if left:
                _remove_from(self.front, element, left)


def _halves(elements: list[bytes], skip: int) -> tuple[list[bytes], list[bytes]]:
    """Drop the first `skip` elements of one side, whose other side is empty, and part the rest between both.

    Returns the other side (reversed) and what stays here. Dropping a few elements again and again from the far
    end of a long array would shift all of it each time; from half of it, it costs next to nothing.
    """
    rest = len(elements) - skip
    if skip == 0 or rest <= SHIFT_MAX:
        del elements[:skip]
        return [], elements
    middle = skip + rest // 2
    other = elements[skip:middle]
    other.reverse()
    del elements[:middle]
    return other, elements


def _remove_from(elements: list[bytes], element: bytes, count: int) -> int:
    """Remove the first `count` elements that are equal to this one; return how many were not found."""
    kept: list[bytes] = []
    start = 0
    while count > 0:
        try:
            at = elements.index(element, start)
        except ValueError:
            break
        count -= 1
        if count == 0 and start == 0:  # the usual LREM: one element
            del elements[at]
            return 0
        kept += elements[start:at]
        start = at + 1
    if start > 0:
        kept += elements[start:]
        elements[:] = kept
    return count


def existing(db: Db, key: bytes) -> ListValue:
    value = db.values[key]
    assert isinstance(value, ListValue)
    return value


def existing_or_new(db: Db, key: bytes) -> ListValue:
    value = db.values.get(key)
    if value is None:
        value = ListValue()
        db.put(key, value)
    assert isinstance(value, ListValue)
    return value


@event(b"LPUSH")
def apply_lpush(db: Db, argv: list[bytes]) -> None:
    """LPUSH key element [element …]."""
    front = existing_or_new(db, argv[1]).front
    if len(argv) == 3:
        front.append(argv[2])
    else:
        front += argv[2:]


@event(b"RPUSH")
def apply_rpush(db: Db, argv: list[bytes]) -> None:
    """RPUSH key element [element …]."""
    back = existing_or_new(db, argv[1]).back
    if len(argv) == 3:
        back.append(argv[2])
    else:
        back += argv[2:]


@event(b"LPOP")
def apply_lpop(db: Db, argv: list[bytes]) -> None:
    """LPOP key [count]; there are as many."""
    value = existing(db, argv[1])
    if len(argv) == 2:
        value.pop_left()
    else:
        value.drop_left(int(argv[2]))
    if not value.front and not value.back:
        db.delete(argv[1])


@event(b"RPOP")
def apply_rpop(db: Db, argv: list[bytes]) -> None:
    """RPOP key [count]; there are as many."""
    value = existing(db, argv[1])
    if len(argv) == 2:
        value.pop_right()
    else:
        value.drop_right(int(argv[2]))
    if not value.front and not value.back:
        db.delete(argv[1])


@event(b"LSET")
def apply_lset(db: Db, argv: list[bytes]) -> None:
    """LSET key index element; the index is in [0, size)."""
    existing(db, argv[1]).put(int(argv[2]), argv[3])


@event(b"LINSERT")
def apply_linsert(db: Db, argv: list[bytes]) -> None:
    """LINSERT key BEFORE|AFTER pivot element; the pivot exists."""
    value = existing(db, argv[1])
    at = value.find(argv[3], 0, value.size())
    assert at >= 0
    value.insert(at if argv[2] == b"BEFORE" else at + 1, argv[4])


@event(b"LREM")
def apply_lrem(db: Db, argv: list[bytes]) -> None:
    """LREM key count element."""
    value = existing(db, argv[1])
    value.remove(argv[3], int(argv[2]))
    if not value.front and not value.back:
        db.delete(argv[1])


@event(b"LTRIM")
def apply_ltrim(db: Db, argv: list[bytes]) -> None:
    """LTRIM key start stop; both in [0, size), start <= stop: something is left."""
    value = existing(db, argv[1])
    start, stop = int(argv[2]), int(argv[3])
    value.drop_right(value.size() - 1 - stop)
    value.drop_left(start)


@event(b"LMOVE", KEY_FIRST_TWO)
def apply_lmove(db: Db, argv: list[bytes]) -> None:
    """LMOVE source destination LEFT|RIGHT LEFT|RIGHT; the source exists."""
    source = existing(db, argv[1])
    element = source.pop_left() if argv[3] == b"LEFT" else source.pop_right()
    if not source.front and not source.back and argv[1] != argv[2]:
        db.delete(argv[1])
    destination = existing_or_new(db, argv[2])
    if argv[4] == b"LEFT":
        destination.front.append(element)
    else:
        destination.back.append(element)
