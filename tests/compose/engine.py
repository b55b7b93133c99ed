"""A Docker engine and Compose v2: those at hand, or ones made here and taken away again.

Where no engine answers, root starts a dockerd of its own, with its data in CACHE (the images are the cache between
two runs) and everything else in a temporary folder. It has no default bridge and leaves firewall and forwarding alone,
so nothing of it stays on the machine when it has ended; therefore builds there use the host's network. Where Compose v2
is missing it is built from its Go module, once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(
    os.environ.get("EVENTDB_COMPOSE_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "eventdb" / "compose"
)
COMPOSE_VERSION = "v2.39.4"
COMPOSE_MODULE = "github.com/docker/compose/v2"
COMPOSE_OLDEST = (2, 20)  # knows all that compose.yaml uses
ENGINE_S = 60  # to start, and to end
# The kernel ends dockerd when the test process dies without a goodbye.
DOCKERD = ("setpriv", "--pdeathsig", "TERM", "dockerd")


class EngineError(Exception):
    """No engine here: the text says what to install, or what dockerd said when it failed."""


def run(*command: str | Path, seconds: float = 120, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    """Run a program to its end; returns its standard output. AssertionError, with all it printed, when it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, f"{' '.join(words)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def succeeds(*command: str | Path, seconds: float = 60, env: dict[str, str] | None = None) -> bool:
    try:
        run(*command, seconds=seconds, env=env)
    except (AssertionError, OSError, subprocess.TimeoutExpired):
        return False
    return True


def say(text: str) -> None:
    """Progress of what takes minutes; pytest shows it with -s and when something fails."""
    print(f"compose: {text}", flush=True)


def find_compose() -> list[str | Path]:
    """The words that start Compose v2. AssertionError when it has to be built and cannot be."""
    with contextlib.suppress(AssertionError, OSError):
        version = run("docker", "compose", "version", "--short").strip().lstrip("v")
        if tuple(int(part) for part in version.split(".")[:2]) >= COMPOSE_OLDEST:
            return ["docker", "compose"]
    plugin = CACHE / "bin" / f"docker-compose-{COMPOSE_VERSION}"
    if not plugin.exists():
        build_compose(plugin)
    return [plugin]


def build_compose(plugin: Path) -> None:
    """Build it inside a module made for that (`go install` refuses it: it has replacements)."""
    assert shutil.which("go"), "neither Docker's Compose plugin nor Go, which could build it, is installed"
    say(f"building Compose {COMPOSE_VERSION}")
    plugin.parent.mkdir(parents=True, exist_ok=True)
    env = {"GOFLAGS": "-mod=mod -buildvcs=false", "GOWORK": "off"}
    with tempfile.TemporaryDirectory(prefix="eventdb-compose-") as folder:
        where = Path(folder)
        run("go", "mod", "init", "scratch", cwd=where, env=env)
        run("go", "get", f"{COMPOSE_MODULE}@{COMPOSE_VERSION}", seconds=600, cwd=where, env=env)
        flags = f"-s -w -X {COMPOSE_MODULE}/internal.Version={COMPOSE_VERSION}"
        build = ("go", "build", "-trimpath", "-ldflags", flags, "-o", where / "plugin", f"{COMPOSE_MODULE}/cmd")
        run(*build, seconds=900, cwd=where, env=env)
        made = plugin.with_suffix(".new")
        shutil.copy2(where / "plugin", made)
        made.replace(plugin)


@dataclass
class Engine:
    """An engine that answers. `own`: it was started here. `env`: how docker and Compose find it."""

    own: bool
    env: dict[str, str] = field(default_factory=dict)

    def docker(self, *words: str | Path, seconds: float = 120) -> str:
        return run("docker", *words, seconds=seconds, env=self.env)

    def has_image(self, name: str) -> bool:
        return succeeds("docker", "image", "inspect", name, env=self.env)


@contextlib.contextmanager
def running_engine() -> Iterator[Engine]:
    """The engine at hand, or one of our own until the end of the block. Raises EngineError."""
    if succeeds("docker", "info", "--format", "{{.ServerVersion}}"):
        server = run("docker", "version", "--format", "{{.Server.Version}}").strip()
        if server:
            yield Engine(own=False)
            return
    missing = [tool for tool in ("docker", "dockerd", "setpriv") if shutil.which(tool) is None]
    if missing:
        raise EngineError(f"{', '.join(missing)} not installed (on Debian: apt-get install docker.io)")
    if os.geteuid() != 0:
        raise EngineError("no Docker engine answers, and only root can start one")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two engines must not share one data folder
        with tempfile.TemporaryDirectory(prefix="eventdb-docker-") as folder, own_engine(Path(folder)) as engine:
            yield engine


@contextlib.contextmanager
def own_engine(folder: Path) -> Iterator[Engine]:
    """dockerd with its socket in `folder`; ended, and nothing left mounted, at the end of the block."""
    socket = f"unix://{folder / 'docker.sock'}"
    words = [*DOCKERD, "--host", socket, "--data-root", str(CACHE / "docker"), "--exec-root", str(folder / "exec")]
    words += ["--pidfile", str(folder / "pid"), "--bridge=none", "--iptables=false", "--ip6tables=false"]
    words += ["--ip-forward=false", "--ip-masq=false"]
    (folder / "client").mkdir()
    engine = Engine(own=True, env={"DOCKER_HOST": socket, "DOCKER_CONFIG": str(folder / "client")})
    output = folder / "dockerd.log"
    with output.open("wb") as sink:
        daemon = subprocess.Popen(words, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        deadline = time.monotonic() + ENGINE_S
        while not succeeds("docker", "info", env=engine.env):
            if daemon.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(output.read_text(errors="replace").splitlines()[-15:])
                raise EngineError(f"the Docker engine cannot run here; dockerd said:\n{tail}")
            time.sleep(0.2)
        yield engine
    finally:
        daemon.terminate()
        try:
            daemon.wait(ENGINE_S)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
        unmount_below(folder, CACHE / "docker")


def unmount_below(*folders: Path) -> list[str]:
    """Unmount what an engine that was killed left there; returns the mount points."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    left = [mount for mount in reversed(mounts) if any(Path(mount).is_relative_to(folder) for folder in folders)]
    for mount in left:
        run("umount", "--lazy", mount)
    return left
