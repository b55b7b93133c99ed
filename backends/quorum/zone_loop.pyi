"""zone_loop.c: the steady state of a zone's thread without the interpreter. Only there where a C compiler was."""

class Lanes:
    """A writer's frames and votes, shared by its loop and its zones' threads. See zone_loop.c for the rules."""

    def __new__(cls, zones: int, majority: int, claim_end: int) -> Lanes: ...
    def add(self, frame: bytes) -> None: ...
    def cut(self, first: int) -> None: ...
    def mark(self, zone: int, end: int) -> bool: ...
    def unmark(self, zone: int) -> None: ...
    def call(self, zone: int) -> None: ...
    def fence(self) -> None: ...
    def busy_since(self, zone: int) -> float: ...
    def state(self) -> tuple[int, int, list[int]]: ...
    def times(self) -> list[tuple[int, float]]: ...
    def hear(self) -> None: ...
    def fileno(self) -> int: ...
    def serve(
        self,
        zone: int,
        promise: tuple[bytes, int, int],
        segment: tuple[int, int, int, int, int],
        successor: tuple[int, int],
        at: tuple[int, int],
        mark: tuple[int, int],
        hint: tuple[int, int, int, float],
        hint_s: float,
        idle_s: float,
        linger_s: float,
        size_max: int,
        /,
    ) -> tuple[int, int, tuple[int, int], tuple[int, int], tuple[int, int], float]:
        """Write and vote until there is a reason to return.

        promise: path, inode, change time in ns. segment: descriptor, epoch, first position, byte at which it is full,
        byte at which its zeros run out. successor: descriptor of the file that is written first (-1: none), and the
        byte of the segment at which it begins. at, mark: byte and position of the next write, of the latest.
        hint: descriptor (-1: none), durable end and sum of votes that it states, when it was written (monotonic s).
        Returns (reason, errno, at, mark, what the hint states, when it was written).
        """
