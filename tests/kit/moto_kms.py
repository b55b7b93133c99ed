"""A server that speaks KMS, on a free port of this machine, which can be stopped and come back."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


class Kms:
    """`new()` makes a key and an alias of it; `client` is what an administrator has."""

    def __init__(self, moto: Any) -> None:
        self._moto = moto
        self._server: Any = None
        self.port = 0
        self.asked: list[tuple[str, dict[str, str]]] = []  # operations that use a key, and their encryption contexts
        self.start()

    def start(self) -> None:
        self._server = self._moto.ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self._server.start()
        _host, self.port = self._server.get_host_and_port()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    @functools.cached_property
    def client(self) -> Any:
        from botocore.session import Session

        return Session().create_client("kms", region_name="eu-central-1")

    def new(self, alias: str) -> str:
        """The ARN of a new key, which `alias/NAME` names from now on."""
        arn: str = self.client.create_key()["KeyMetadata"]["Arn"]
        known = [each["AliasName"] for each in self.client.list_aliases()["Aliases"]]
        name = f"alias/{alias}"
        if name in known:
            self.client.delete_alias(AliasName=name)
        self.client.create_alias(AliasName=name, TargetKeyId=arn.rpartition("/")[2])
        return arn


@contextmanager
def running_kms() -> Iterator[Kms]:
    """The server, and the environment by which it is found, by programs that are started too."""
    moto = pytest.importorskip("moto.server")
    models = pytest.importorskip("moto.kms.models")
    errors = pytest.importorskip("moto.core.exceptions")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    asked: list[tuple[str, dict[str, str]]] = []
    true_encrypt, true_decrypt = models.KmsBackend.encrypt, models.KmsBackend.decrypt

    def decrypt(self: Any, *args: Any, **named: Any) -> Any:
        """moto opens with a key that was disabled or is going to be deleted; AWS answers so instead."""
        asked.append(("decrypt", dict(named["encryption_context"])))
        found = true_decrypt(self, *args, **named)
        key = next(each for each in self.keys.values() if each.arn == found[1])
        if not key.enabled:
            raise errors.JsonRESTError("DisabledException", f"{key.arn} is disabled.")
        return found

    def encrypt(self: Any, *args: Any, **named: Any) -> Any:
        asked.append(("encrypt", dict(named["encryption_context"])))
        return true_encrypt(self, *args, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models.KmsBackend, "decrypt", decrypt)
        patch.setattr(models.KmsBackend, "encrypt", encrypt)
        for name in ("AWS_PROFILE", "AWS_REGION"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIDTEST")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "c0rrect-h0rse")
        patch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        patch.setenv("NO_PROXY", "127.0.0.1")
        kms = Kms(moto)
        kms.asked = asked
        patch.setenv("AWS_ENDPOINT_URL_KMS", f"http://127.0.0.1:{kms.port}")
        try:
            yield kms
        finally:
            kms.stop()
