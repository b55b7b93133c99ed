"""The wire to a running server, against sources that do not keep to it, and without room for what they send."""

from __future__ import annotations

import resource
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventdb.history.psync import Address, Feed, SourceError
from eventdb.rdb.writer import write
from tests.cli.test_cli import finish, start
from tests.conftest import wait_until
from tests.kit.harness import Local

ID = b"a" * 40


class Source:
    """Answers PSYNC with some bytes, and everything else with OK."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.once_paused = b""  # what the stream goes on with
        self.stream: socket.socket | None = None
        self.asked: list[bytes] = []  # for the stream, and CLIENT commands
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._accept)
        self.thread.start()

    def _accept(self) -> None:
        talks = []
        while True:
            try:
                link, _ = self.listener.accept()
            except OSError:
                break
            talks.append(threading.Thread(target=self._talk, args=(link,)))
            talks[-1].start()
        for talk in talks:
            talk.join()

    def _talk(self, link: socket.socket) -> None:
        with link:
            try:
                while data := link.recv(1 << 16):
                    if b"PSYNC" in data:
                        self.asked.append(b"PSYNC")
                        link.sendall(self.answer)
                        self.stream = link
                    elif b"CLIENT" in data:
                        self.asked.append(data.split(b"\r\n")[4])
                        link.sendall(b"+OK\r\n")
                        if self.once_paused and self.stream is not None:
                            self.stream.sendall(self.once_paused)
                    elif b"INFO" in data:
                        link.sendall(b"$25\r\nmaster_repl_offset:999999\r\n")
                    elif b"ACK" not in data:
                        link.sendall(b"+OK\r\n")
            except ConnectionError:
                pass

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()


@pytest.fixture
def sources() -> Iterator[list[Source]]:
    running: list[Source] = []
    yield running
    for each in running:
        each.close()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"+FULLRESYNC %b xyz\r\n" % ID, "b'xyz' is no number"),
        (b"+FULLRESYNC %b 5\r\n$-5\r\n" % ID, "b'-5' is no number"),
        (b"+FULLRESYNC %b 5\r\n$abc\r\n" % ID, "b'abc' is no number"),
        (b"+FULLRESYNC %b 5\r\nhello\r\n" % ID, "where its file should begin the source says: hello"),
        (b"+FULLRESYNC %b 5\r\n$EOF:short\r\n" % ID, "has not 40 bytes"),
        (b"+CONTINUE\r\n", "answers PSYNC with: CONTINUE"),  # there is nothing to go on from
        (b"-ERR no\r\n", "answers PSYNC with: ERR no"),
    ],
)
def test_a_source_that_makes_no_sense_is_named_and_not_asked_again(
    sources: list[Source], answer: bytes, text: str
) -> None:
    sources.append(Source(answer))
    feed = Feed(Address("127.0.0.1", sources[0].port), None, lambda: None)
    feed.start()
    feed.join(20)
    assert isinstance(feed.error, SourceError) and text in str(feed.error)
    assert sources[0].asked == [b"PSYNC"]
    feed.end()


def test_a_source_that_breaks_off_before_its_file_is_asked_again(sources: list[Source]) -> None:
    """As a busy server does that has just begun to fork; one that never answered is not waited for."""
    sources.append(Source(b""))
    wake = threading.Event()
    feed = Feed(Address("127.0.0.1", sources[0].port), None, wake.set)
    feed.start()
    wait_until(lambda: sources[0].stream is not None, what="it asks for the stream")
    assert sources[0].stream is not None
    sources[0].answer = b"+FULLRESYNC %b 5\r\n$3\r\nabc" % ID
    sources[0].stream.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: feed.file_offset >= 0, what="the file is there")
    assert feed.error is None and sources[0].asked == [b"PSYNC", b"PSYNC"]
    feed.end()


def a_file(size: int) -> bytes:
    local = Local()
    local("SET", "k", bytes(range(256)) * (size // 256))
    parts: list[bytes] = []
    write(parts.append, local.engine.store.keyspace, {})
    return b"".join(parts)


def test_without_room_for_the_file_the_source_is_not_asked_for_it_again(sources: list[Source], tmp_path: Path) -> None:
    """Each time it would write down all of its state, for nothing."""
    data = a_file(1 << 18)
    sources.append(Source(b"+FULLRESYNC %b 5\r\n$%d\r\n%b" % (ID, len(data), data)))
    url = f"redis://127.0.0.1:{sources[0].port}"
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 17, 1 << 17))  # noqa: E731
    done = finish(start("import", url, "--log", f"quorum:{tmp_path / 'log'}", preexec_fn=limit))
    assert done.code == 1 and "(TMPDIR) until it is in the log: File too large" in done.err, done.err
    assert sources[0].asked == [b"PSYNC"] and not (tmp_path / "log").exists()


def test_a_failure_lets_the_source_write_again_at_once(sources: list[Source], tmp_path: Path) -> None:
    """It was told to wait for the last bytes, and what comes cannot be run."""
    data = a_file(256)
    sources.append(Source(b"+FULLRESYNC %b 5\r\n$%d\r\n%b" % (ID, len(data), data)))
    sources[0].once_paused = b"nonsense\r\n"
    url = f"redis://127.0.0.1:{sources[0].port}"
    done = finish(start("import", url, "--log", f"quorum:{tmp_path / 'log'}", "--cutover", "pause"))
    assert done.code == 1 and "begins no command" in done.err, done.err
    assert sources[0].asked == [b"PSYNC", b"PAUSE", b"UNPAUSE"]
