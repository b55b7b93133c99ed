"""The server: listens, gives each connection a protocol, and ends well.

The port is bound before the log is claimed, so that a second server started by mistake on the same port never takes the
log away from the first.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import sys
from typing import Final

import uvloop

from eventdb import commands
from eventdb.backends.seal import ENVIRONMENT
from eventdb.cluster.lease import AskedRole
from eventdb.cluster.timing import LEASE_MS
from eventdb.cluster.topology import Member, member_of
from eventdb.engine.client import Client
from eventdb.engine.config_file import load as load_file
from eventdb.engine.plain_runs import PlainRuns, find_runner
from eventdb.engine.settings import Config
from eventdb.node.announcing import announce
from eventdb.node.freshness import keep_asking
from eventdb.node.node import Node
from eventdb.node.traces import Traces
from eventdb.replay.follower import Progress
from eventdb.security.tls import TlsError
from eventdb.server.connection import Connection, Unread
from eventdb.server.door import Door
from eventdb.server.meanwhile import Meanwhile
from eventdb.server.monitoring import Monitoring
from eventdb.server.tls_port import TlsPort

logger: Final = logging.getLogger("eventdb")

LISTEN_BACKLOG: Final = 1024
DRAIN_S: Final = 5.0
GOODBYE_S: Final = 1.0  # of a stop, for TLS clients that have everything to answer the end of TLS
EVERYWHERE: Final = ("", "*", "0.0.0.0", "::")
LOAD_REPORT_S: Final = 2.0
LOOK_S: Final = 1.0  # between two looks at files of certificates, and at clients that have not authenticated
# How long a zone's thread waits before it asks a busy loop for the interpreter. Compiled code gives it up only
# between two callbacks, and then only if asked.
SWITCH_INTERVAL_S: Final = 0.00005


class CannotListen(OSError):  # noqa: N818 - named as the errors of the log are
    """An address or a port cannot be had; strerror is for a person."""


class Server:
    """A node on a TCP port, a TLS port, or both. `start`, then `wait` until `stop` is asked for, then `close`."""

    def __init__(
        self,
        log_url: str,
        config: Config,
        host: str = "127.0.0.1",
        port: int = 6379,
        name: str = "",
        *,
        asked: AskedRole = AskedRole.PRIMARY,
        lease_ms: int = LEASE_MS,
        advertise: str = "",
    ) -> None:
        """port: 0 takes a free one, or beside a tls-port none.

        advertise: host:port at which other nodes and clients reach this one, if not at the address it listens on.
        """
        commands.load()
        self.bind = host
        self.hosts = addresses(host)
        self.host = self.hosts[0]
        self.port = port
        self.config = config
        self.connections: dict[Connection, None] = {}
        self.waiting = Unread()
        self.advertise = advertise
        self.node = Node(log_url, config, name, asked=asked, lease_ms=lease_ms)
        self.tasks: list[asyncio.Task[None]] = []  # what this node says to others
        self.door = Door(self.node.engine)
        self.listener: asyncio.Server | None = None
        self.monitoring: Monitoring | None = None
        self.tls_port: TlsPort | None = None
        self.stopping = asyncio.Event()
        self.traces: Traces | None = None
        self.node.on_shutdown = self.stopping.set
        self.plain = PlainRuns(self.node.engine, find_runner())
        self.meanwhile = Meanwhile(self.node.engine, self.connections, self._connection)
        self.node.engine.busy.on_wait = self.meanwhile.look
        self.node.engine.busy.on_end = self.meanwhile.end
        self.node.engine.busy.on_abort = _abort
        if config.cluster_enabled != "yes":  # there MOVED shows clients the way
            self.node.parting.on_parted = self._retire_clients

    async def start(self) -> None:
        """Bind, then load.

        Raises OSError (a port, the ACL file), AclError (what that file says), TlsError (a certificate …), ValueError
        (`metrics-port`), LogError.
        """
        loop = asyncio.get_running_loop()
        engine = self.node.engine
        tls = self.config.tls
        if self.config.acl_file:
            engine.permissions.load_file(engine.clients)
        if tls.between_nodes() and not tls.port:
            raise TlsError("tls-port", "nodes that speak TLS to each other need one")
        tls.check()
        await self._listen()
        seen = tls.port if tls.between_nodes() else self.port or tls.port
        self.node.address = self.advertise or announced(self.config, self.host, seen)
        try:
            member_of(Member(self.node.name, self.node.address).describe())
        except ValueError as error:
            raise ValueError(f"--node-name and --advertise say who this node is to others: {error}") from None
        self.config.port = self.port
        self.config.bind = self.bind
        if self.config.traces_endpoint:
            self._trace()
        if self.config.metrics_port:
            self.monitoring = Monitoring(self.node)
            await self.monitoring.start()
        await self.node.start()
        if self.monitoring is not None:
            self.monitoring.watch_zones()
        self.tasks.append(loop.create_task(self._look_around()))
        self.tasks.append(loop.create_task(announce(engine)))
        if self.config.replica_read_mode == "fresh":
            self.node.freshness.backlog = _backlog
            self.tasks.append(loop.create_task(keep_asking(engine, self.node.freshness)))

    def _trace(self) -> None:
        """From here on what the node does is traced. Raises ValueError."""
        node, accounting = self.node, self.node.engine.accounting
        self.traces = traces = Traces(self.config.traces_endpoint, node.name, str(sys.modules["eventdb"].__version__))
        node.traces = node.saving.traces = node.restoring.traces = traces
        node.appending.on_commit = traces.commit
        accounting.on_slow = traces.command
        node.engine.reconfigure()

    def _connection(self) -> Connection:
        return Connection(self.node.engine, self.connections, self.waiting, self.plain, self.door)

    async def _listen(self) -> None:
        """Bind both ports, whichever there are. Raises CannotListen."""
        try:
            await self._bind()
        except OSError as error:
            code = error.errno or 0
            reason = os.strerror(code) if code > 0 else error.strerror or str(error)  # below 0: of a name's look-up
            ports = " and ".join(str(each) for each in (self.port, self.config.tls.port) if each) or "0"
            raise CannotListen(code, f"cannot serve on {','.join(self.hosts)}:{ports}: {reason}") from None

    async def _bind(self) -> None:
        tls = self.config.tls
        if self.port or not tls.port:
            try:
                self.listener = await asyncio.get_running_loop().create_server(
                    self._connection,  # type: ignore[arg-type]
                    self.hosts if self.port else self.host,
                    self.port,
                    backlog=LISTEN_BACKLOG,
                )
            except OSError as error:  # it names one of the addresses, or none
                where = f"{' '.join(self.hosts)}:{self.port}"
                raise OSError(error.errno, f"cannot serve on {where}: {error.strerror}") from None
            self.port = self.listener.sockets[0].getsockname()[1]
            self.meanwhile.listeners = [each.fileno() for each in self.listener.sockets]
        if tls.port:
            self.tls_port = TlsPort(self.node.engine, self.door, self.connections, self._connection)  # type: ignore[arg-type]
            self.tls_port.listen(self.hosts, tls.port, LISTEN_BACKLOG)

    async def _look_around(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self.config.tls.look()
            self.door.sweep()

    def _retire_clients(self) -> None:
        for connection in list(self.connections):
            connection.retire()

    def _leave_mute(self) -> None:
        """End connections that only wait for the other side to end TLS too."""
        for connection in list(self.connections):
            if connection.encrypted and connection.has_sent_all():
                connection.abort()

    def described(self) -> str:
        """Where it listens, for people."""
        tls = self.config.tls.port
        if not tls:
            return f"{self.host}:{self.port}"
        return f"{self.host}:{self.port}, and {tls} with TLS" if self.port else f"{self.host}:{tls} with TLS"

    async def close(self) -> None:
        """Accept no more, make what was accepted durable, answer it, close every connection."""
        for task in self.tasks:
            task.cancel()
        if self.listener is not None:
            self.listener.close()
        if self.tls_port is not None:
            self.tls_port.close()
        for connection in list(self.connections):
            connection.stop_reading()
        await self.node.close()
        for connection in list(self.connections):
            connection.finish()
        loop = asyncio.get_running_loop()
        began = loop.time()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while self.connections:
                    await asyncio.sleep(0.01)
                    if loop.time() - began > GOODBYE_S:
                        self._leave_mute()
        for connection in list(self.connections):
            connection.abort()
        if self.traces is not None:
            await asyncio.to_thread(self.traces.close)
        if self.monitoring is not None:  # last: until then it says what is being waited for
            await self.monitoring.close()


def _abort() -> None:
    """SHUTDOWN NOSAVE while a script runs that has written. As after `kill -9`, every acknowledged write is there."""
    logger.warning("stopped at once, in the middle of a script: what it has written is not in the log")
    logging.shutdown()
    os._exit(0)


def _backlog(client: Client) -> int:
    sink = client.sink
    return sink.commands_waiting() if isinstance(sink, Connection) else 0


def addresses(bind: str) -> list[str]:
    """Where to listen: of `127.0.0.1 -::1` the addresses after a minus only if this machine has them."""
    found: list[str] = []
    for word in bind.split():
        host = {"*": "0.0.0.0", "::*": "::"}.get(word.lstrip("-"), word.lstrip("-"))
        if word.startswith("-"):
            try:
                with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
                    probe.bind((host, 0))
            except OSError:
                continue
        found.append(host)
    return found or [bind]


def announced(config: Config, host: str, port: int) -> str:
    """The address that clients and other nodes are told; of a node that listens everywhere, that of its host name."""
    if config.announce_host:
        host = config.announce_host
    elif host in EVERYWHERE:
        host = socket.gethostname()
        with contextlib.suppress(OSError):
            host = socket.gethostbyname(host)
        if host.startswith("127."):
            logger.warning(
                "this machine's name stands for %s, where no other finds it: give --advertise HOST:PORT", host
            )
    port = config.announce_port or port
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class LoadReport:
    """Logs the progress of a rebuild that takes longer than a second."""

    def __init__(self) -> None:
        self.due_seconds = 1.0

    def __call__(self, progress: Progress) -> None:
        if progress.seconds >= self.due_seconds:
            self.due_seconds = progress.seconds + LOAD_REPORT_S
            logger.info("replaying: %s", progress.describe())


async def _run(server: Server) -> None:
    loop = asyncio.get_running_loop()
    server.node.on_progress = LoadReport()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, server.stopping.set)
    try:
        await server.start()
        sys.stdout.write(f"ready on {server.described()}\n")  # in one piece: print may let a log line into the middle
        sys.stdout.flush()
        await server.stopping.wait()
        logger.info("stopping")
    finally:
        await server.close()


def serve(
    log_url: str,
    host: str | None,
    port: int | None,
    *,
    config_file: str = "",
    requirepass: str = "",
    config: dict[str, str] | None = None,
    node: str = "",
    asked: AskedRole = AskedRole.AUTO,
    lease_ms: int = LEASE_MS,
    advertise: str = "",
) -> None:
    """Run a server until SIGTERM or SIGINT. Blocks. Raises LogError, OSError, ValueError (a bad setting).

    What is given here counts more than what stands in the file; host may name several addresses, as `bind` does.
    """
    settings = Config()
    for note in load_file(config_file, settings) if config_file else []:
        logger.info("%s", note)
    host = settings.bind if host is None else host
    port = settings.port if port is None else port
    if requirepass:
        settings.requirepass = requirepass.encode()
    for name, value in (config or {}).items():
        settings.set(name, value)
    if settings.encryption_keys:  # also for what this program opens beside its log, and for programs that it starts
        os.environ[ENVIRONMENT] = settings.encryption_keys
    _raise_file_limit(settings.maxclients)
    gc.set_threshold(50_000, 50, 1000)
    sys.setswitchinterval(SWITCH_INTERVAL_S)

    async def main() -> None:
        await _run(Server(log_url, settings, host, port, node, asked=asked, lease_ms=lease_ms, advertise=advertise))

    uvloop.run(main())


def _raise_file_limit(clients: int) -> None:
    """Allow a file descriptor per client; what the system refuses only lowers how many can connect."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = clients + 256
    if soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard) if hard > 0 else wanted, hard))
