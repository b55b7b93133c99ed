"""An authority, and certificates that it signs, made by the openssl command in a test's folder."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest


class Authority:
    """Files NAME.crt and NAME.key in a folder. The authority's own are ca.crt and ca.key."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("openssl") is None:
            assert not os.environ.get("CI"), "the tests of TLS need the openssl command"
            pytest.skip("openssl is not installed")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.file = str(folder / "ca.crt")
        _openssl(*_request("/CN=authority"), "-x509", "-days", "2", "-keyout", f"{folder}/ca.key", "-out", self.file)

    def sign(self, name: str, *, common_name: str = "", names: str = "IP:127.0.0.1", password: str = "") -> Path:
        """Makes NAME.crt and NAME.key, in place of those that are there; returns the place without a suffix."""
        place = self.folder / name
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={names}\n")
        locked = ("-passout", f"pass:{password}") if password else ()
        request = [*_request(f"/O=tests/CN={common_name or name}"), "-keyout", f"{place}.key.new", *locked]
        if password:
            request.remove("-nodes")
        _openssl(*request, "-out", f"{place}.csr")
        _openssl(
            "x509", "-req", "-in", f"{place}.csr", "-CA", self.file, "-CAkey", f"{self.folder}/ca.key", "-days", "2",
            "-CAcreateserial", "-extfile", str(extensions), "-out", f"{place}.crt.new",
        )  # fmt: skip
        for suffix in ("crt", "key"):
            os.replace(f"{place}.{suffix}.new", f"{place}.{suffix}")
        return place

    def client(self, place: Path | None = None, *, trusted: str = "") -> ssl.SSLContext:
        """What a client of this authority uses, with the certificate at `place`."""
        context = ssl.create_default_context(cafile=trusted or self.file)
        if place is not None:
            context.load_cert_chain(f"{place}.crt", f"{place}.key")
        return context

    def settings(self, port: int, place: Path, **others: str) -> dict[str, str]:
        """Settings of a server with the certificate at `place`; clients need none unless `others` say so."""
        return {
            "tls-port": str(port), "tls-cert-file": f"{place}.crt", "tls-key-file": f"{place}.key",
            "tls-ca-cert-file": self.file, "tls-auth-clients": "no",
            **{name.replace("_", "-"): value for name, value in others.items()},
        }  # fmt: skip


def _request(subject: str) -> list[str]:
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    return ["req", "-new", *curve, "-nodes", "-subj", subject]


def _openssl(*words: str) -> None:
    done = subprocess.run(["openssl", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
