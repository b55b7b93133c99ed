"""The wire to a running Redis or Valkey, of which we are a replica: its file, then its stream, in a thread.

The thread only receives: the file goes into a temporary file, the stream into another (`Spool`), so that the source's
buffer for us stays empty however long the reading of the file takes. When the connection breaks it is made again, and
the source asked for what comes after the last byte received.
Source: redis src/replication.c syncWithMaster, readSyncBulkPayload.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final
from urllib.parse import unquote, urlsplit

from eventdb.backends.log import LogError

CONNECT_S: Final = 10.0
ANSWER_S: Final = 60.0  # for a reply, and without a byte: a source pings its replicas every 10 s
TICK_S: Final = 0.1
ACK_S: Final = 1.0
RETRY_S: Final = 1.0
CHUNK_BYTES: Final = 1 << 18
LINE_BYTES_MAX: Final = 1 << 16
MARK_BYTES: Final = 40
SPOOL_REUSE_BYTES: Final = 16 << 20
ID_LENGTH: Final = 40
# Answers to PSYNC that mean: later.
LATER: Final = (b"-NOMASTERLINK", b"-LOADING", b"-BUSY", b"-MASTERDOWN", b"-ERR Can't SYNC while")


class SourceError(LogError):
    """The source refuses, or cannot give what is asked for."""


class NoRoom(SourceError):  # noqa: N818 - named as the errors of log.py are
    """What comes from the source cannot be kept here until it is in the log."""


@contextlib.contextmanager
def _kept() -> Iterator[None]:
    """Around what writes a temporary file: the source is not asked to begin anew for want of room here."""
    try:
        yield
    except OSError as error:
        where = tempfile.gettempdir()
        raise NoRoom(
            f"what the source sends cannot be kept in {where} (TMPDIR) until it is in the log: {error.strerror}"
        ) from error


def _number(text: bytes) -> int:
    """Raises SourceError."""
    if not text.isdigit():
        raise SourceError(f"the source does not speak Redis's protocol: {text[:40]!r} is no number")
    return int(text)


class BadSourceURL(ValueError):  # noqa: N818 - named as BadLogURL is
    """No address of a Redis."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a Redis listens, and as whom we come."""

    host: str
    port: int
    user: str = ""
    password: str = ""
    tls: bool = False
    ca_file: str = ""

    @property
    def shown(self) -> str:
        """Without the password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"redis{'s' if self.tls else ''}://{host}:{self.port}"


def parse_url(url: str, ca_file: str = "") -> Address:
    """redis://[user:password@]host[:port][/0], rediss:// for TLS. Raises BadSourceURL."""
    parts = urlsplit(url)
    try:
        port = parts.port or 6379
    except ValueError:
        raise BadSourceURL("its port is no number from 1 to 65535") from None
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise BadSourceURL("it should look like redis://[user:password@]host:port")
    if parts.path not in ("", "/", "/0"):
        raise BadSourceURL("a migration takes all databases: leave what follows the port out")
    return Address(
        parts.hostname, port, unquote(parts.username or ""), unquote(parts.password or ""),
        parts.scheme == "rediss", ca_file,
    )  # fmt: skip


class Link:
    """One connection, before any stream: commands and their replies."""

    def __init__(self, address: Address) -> None:
        self.buffer = b""
        self.socket = socket.create_connection((address.host, address.port), CONNECT_S)
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if address.tls:
                context = ssl.create_default_context(cafile=address.ca_file or None)
                self.socket = context.wrap_socket(self.socket, server_hostname=address.host)
            self.socket.settimeout(ANSWER_S)
            if address.password:
                who = [address.user.encode()] if address.user else []
                self.call(b"AUTH", *who, address.password.encode())
        except BaseException:
            self.close()
            raise

    def send(self, *argv: bytes) -> None:
        self.socket.sendall(b"*%d\r\n" % len(argv) + b"".join(b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in argv))

    def receive(self) -> bytes:
        """Some bytes; b"" when there are none yet. Raises ConnectionError at the end."""
        try:
            data = self.socket.recv(CHUNK_BYTES)
        except (TimeoutError, ssl.SSLWantReadError):
            return b""
        if not data:
            raise ConnectionError("the source closed the connection")
        return data

    def line(self) -> bytes:
        """The next line that is not empty, without its end."""
        deadline = time.monotonic() + ANSWER_S
        while True:
            line, found, rest = self.buffer.partition(b"\n")
            if found:
                self.buffer = rest
                if line.strip():
                    return line.strip()
                deadline = time.monotonic() + ANSWER_S  # it is alive, and busy
                continue
            if len(line) > LINE_BYTES_MAX:
                raise SourceError("the source does not speak Redis's protocol")
            if time.monotonic() > deadline:
                raise ConnectionError(f"the source has not answered for {ANSWER_S:.0f} s")
            self.buffer += self.receive()

    def call(self, *argv: bytes) -> bytes:
        """A command's reply: a line, or the text of a bulk string. Raises SourceError for an error."""
        self.send(*argv)
        line = self.line()
        if line.startswith(b"-"):
            raise SourceError(f"the source answers {argv[0].decode()} with: {line[1:].decode('utf-8', 'replace')}")
        if not line.startswith(b"$"):
            return line
        size = int(line[1:]) + 2
        while len(self.buffer) < size:
            self.buffer += self.receive()
        found, self.buffer = self.buffer[: size - 2], self.buffer[size:]
        return found

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.close()


class Spool:
    """What was received and not yet taken, on the disk; one thread writes, another reads."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        self._lock = threading.Lock()
        self._written = 0
        self._taken = 0

    def write(self, data: bytes) -> None:
        with self._lock:
            self._file.seek(self._written)
            self._file.write(data)
            self._written += len(data)

    def take(self, size: int) -> bytes:
        with self._lock:
            self._file.seek(self._taken)
            data = self._file.read(min(size, self._written - self._taken))
            self._taken += len(data)
            if self._taken == self._written and self._written > SPOOL_REUSE_BYTES:
                self._file.truncate(0)
                self._taken = self._written = 0
            return data

    def close(self) -> None:
        self._file.close()


class Feed(threading.Thread):
    """Receives. `resume`: the id and offset up to which the stream is already had; None: begin with the file.

    Its fields are read by another thread, which is woken by `notify` after each change.
    """

    def __init__(self, address: Address, resume: tuple[str, int] | None, notify: Callable[[], None]) -> None:
        super().__init__(name="psync", daemon=True)
        self.address = address
        self.notify = notify
        self.replication_id, self.received = resume if resume is not None else ("", -1)  # "": nothing is had
        self.resumed = resume is not None
        self.file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `end`
        self.file_offset = -1  # of the stream, where the file ends; -1: it is not all there
        self.file_bytes = 0  # received of it
        self.file_size = 0  # 0: not known
        self.spool = Spool()
        self.ack_offset = 0
        self.ack_now = False
        self.connected = False
        self.reconnects = 0
        self.trouble = ""  # why it is not connected
        self.error: Exception | None = None  # it has given up
        self._ending = False
        self._met = False  # it has answered, so that what fails from here on is tried again
        self._link: Link | None = None

    def acknowledge(self, offset: int, at_once: bool) -> None:
        """Everything up to this byte of the stream is durable."""
        self.ack_offset = offset
        self.ack_now = self.ack_now or at_once

    def end(self) -> None:
        """Stop; what is in the spool stays."""
        self._ending = True
        link = self._link
        if link is not None:
            with contextlib.suppress(OSError):
                link.socket.shutdown(socket.SHUT_RDWR)
        if self.ident is not None:
            self.join(CONNECT_S)
        self.spool.close()
        self.file.close()

    def run(self) -> None:
        while not self._ending:
            try:
                self._session()
            except SourceError as refused:
                self.error = refused
                break
            except (OSError, ValueError) as lost:
                if not self._met:
                    self.error = SourceError(f"{self.address.shown} cannot be reached: {lost}")
                    break
                self.trouble = str(lost) or type(lost).__name__
            except Exception as unexpected:
                self.error = unexpected
                break
            self.connected = False
            self.reconnects += 1
            self.notify()
            if not self._ending:
                time.sleep(RETRY_S)
        self.connected = False
        self.notify()

    def _session(self) -> None:
        """One connection, until it breaks."""
        link = self._link = Link(self.address)
        try:
            link.call(b"PING")
            self._met = True
            link.call(b"REPLCONF", b"capa", b"eof", b"capa", b"psync2")
            if self.replication_id:
                link.send(b"PSYNC", self.replication_id.encode(), b"%d" % (self.received + 1))
            else:
                link.send(b"PSYNC", b"?", b"-1")
            line = link.line()
            words = line.split()
            if line.startswith(LATER):
                self.connected = True  # it is there, and we wait for it
                raise ConnectionError(line[1:].decode("utf-8", "replace"))
            if words[0] == b"+CONTINUE" and self.replication_id:
                if len(words) > 1:
                    self.replication_id = words[1].decode("ascii", "replace")
            elif words[0] == b"+FULLRESYNC" and len(words) > 2 and len(words[1]) == ID_LENGTH:
                if self.replication_id:
                    raise SourceError(
                        f"{self.address.shown} no longer has what comes after offset {self.received} of its stream"
                        f" {self.replication_id[:8]} (its repl-backlog-size is too small, or it was started anew):"
                        " set repl-backlog-size to what it writes in an hour, and migrate into a new log"
                    )
                self._receive_file(link, words[1].decode("ascii", "replace"), _number(words[2]))
            else:
                raise SourceError(f"the source answers PSYNC with: {line[1:].decode('utf-8', 'replace')}")
            self.connected = True
            self.trouble = ""
            self.notify()
            self._receive_stream(link)
        finally:
            self._link = None
            link.close()

    def _receive_file(self, link: Link, replication_id: str, offset: int) -> None:
        self.connected = True
        head = link.line()
        if not head.startswith(b"$"):
            raise SourceError(f"where its file should begin the source says: {head[:200].decode('utf-8', 'replace')}")
        mark = head[5:] if head.startswith(b"$EOF:") else b""
        if mark and len(mark) != MARK_BYTES:
            raise SourceError("the mark at the end of the source's file has not 40 bytes")
        self.file_size = 0 if mark else _number(head[1:])
        with _kept():
            self.file.seek(0)
            self.file.truncate()
        data, link.buffer = link.buffer, b""
        left = self.file_size
        tail = b""
        self.file_bytes = 0
        heard = time.monotonic()
        link.socket.settimeout(ACK_S)
        while True:
            if mark:  # nothing comes after it before we acknowledge
                tail = (tail + data)[-MARK_BYTES:]
                with _kept():
                    self.file.write(data)
                self.file_bytes += len(data)
                if tail == mark:
                    self.file_bytes -= MARK_BYTES
                    with _kept():
                        self.file.truncate(self.file_bytes)
                    break
            else:
                with _kept():
                    self.file.write(data[:left])
                self.file_bytes += min(left, len(data))
                if len(data) >= left:
                    link.buffer = data[left:]
                    break
                left -= len(data)
            data = link.receive()
            if data:
                heard = time.monotonic()
            elif time.monotonic() - heard > ANSWER_S or self._ending:
                raise ConnectionError(f"nothing came of the source's file for {ANSWER_S:.0f} s")
        with _kept():
            self.file.flush()
        self.replication_id, self.received = replication_id, offset
        self.file_offset = offset
        self.ack_offset = offset

    def _receive_stream(self, link: Link) -> None:
        data, link.buffer = link.buffer, b""
        link.socket.settimeout(TICK_S)
        heard = time.monotonic()
        acknowledged = -1.0  # at once: a source that sent its file without a length waits for it
        while not self._ending:
            now = time.monotonic()
            if data:
                heard = now
                with _kept():
                    self.spool.write(data)
                self.received += len(data)
                self.notify()
            elif now - heard > ANSWER_S:
                raise ConnectionError(f"the source was silent for {ANSWER_S:.0f} s")
            if self.ack_now or now - acknowledged >= ACK_S:
                self.ack_now = False
                acknowledged = now
                link.send(b"REPLCONF", b"ACK", b"%d" % self.ack_offset)
            data = link.receive()
