"""The images that the stack is made from: the real ones, or stand-ins made from Debian's and Maven's packages.

Where no image registry can be reached, debootstrap makes a Debian and two small Dockerfiles (debian/) make of it what
python:slim and apache/kafka are to compose.yaml. The builds inside need the host's certificates and its pip settings.
"""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

from eventdb.cli.dev.brokers import fetch_jars
from tests.compose.engine import CACHE, Engine, run, say, succeeds
from tests.kit.kafka_brokers import JARS, POM

HERE = Path(__file__).resolve().parent
SUITE = "bookworm"
DEBIAN, PYTHON, KAFKA = (f"eventdb-test/{name}" for name in ("debian", "python", "kafka"))
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"  # where Debian has them, and so the stand-ins
# What a pip inside a build needs to know as well; files and folders of this machine do not exist there.
PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "timeout", "default-timeout", "proxy", "retries")


def image_variables(engine: Engine, compose: list[str | Path], real: dict[str, str]) -> dict[str, str]:
    """Variables for compose.yaml: none when the `real` images (variable -> name) can be pulled, else the stand-ins."""
    if all(
        engine.has_image(name) or succeeds("docker", "pull", name, seconds=600, env=engine.env)
        for name in real.values()
    ):
        say(f"images: {', '.join(real.values())}")
        return {}
    say("no image registry can be reached: building stand-ins for " + ", ".join(real.values()))
    if not engine.has_image(DEBIAN):
        import_debian(engine)
    context = CACHE / "context"
    fill_context(context)
    variables = {"STAND_IN_CONTEXT": str(context)}
    command = [*compose, "-f", HERE / "debian" / "images.yaml", "build", "--quiet"]
    run(*command, seconds=600, env={**engine.env, **variables})
    return {"BASE_IMAGE": PYTHON, "KAFKA_IMAGE": KAFKA}


def import_debian(engine: Engine) -> None:
    """A minimal Debian as an image, by debootstrap."""
    assert shutil.which("debootstrap"), "debootstrap is not installed (on Debian: apt-get install debootstrap)"
    with tempfile.TemporaryDirectory(prefix="eventdb-debian-") as folder:
        say(f"debootstrap {SUITE}")
        run("debootstrap", "--variant=minbase", "--include=ca-certificates", SUITE, f"{folder}/tree", seconds=600)
        shutil.rmtree(f"{folder}/tree/var/cache/apt/archives", ignore_errors=True)
        with subprocess.Popen(["tar", "-C", f"{folder}/tree", "-c", "."], stdout=subprocess.PIPE) as tar:
            subprocess.run(
                ["docker", "import", "-", DEBIAN],
                stdin=tar.stdout, env={**os.environ, **engine.env}, check=True, capture_output=True, timeout=300,
            )  # fmt: skip


def fill_context(context: Path) -> None:
    """The folder that the stand-ins are built from: Dockerfiles, Kafka's jars, certificates, pip settings.

    Raises: NoKafka.
    """
    shutil.copytree(HERE / "debian", context, dirs_exist_ok=True)
    shutil.copytree(fetch_jars(JARS, POM), context / "jars", dirs_exist_ok=True)
    etc = context / "etc"
    (etc / "ssl" / "certs").mkdir(parents=True, exist_ok=True)
    bundle = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile or CERTIFICATES
    shutil.copyfile(bundle, f"{etc}/ssl/certs/ca-certificates.crt")
    (etc / "pip.conf").write_text("\n".join(["[global]", f"cert = {CERTIFICATES}", *pip_settings(), ""]))


def pip_settings() -> list[str]:
    """Lines for a pip.conf: what this machine's pip was told that also holds inside a build."""
    lines = []
    for line in run(sys.executable, "-m", "pip", "config", "list").splitlines():
        where, _, value = line.partition("=")
        name = where.rpartition(".")[2]
        if name in PIP_SETTINGS:
            lines.append(f"{name} = {value.strip(chr(39))}".replace("\\n", "\n    "))
    return sorted(set(lines))
