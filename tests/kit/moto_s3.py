"""A server that speaks S3, on a free port of this machine."""

from __future__ import annotations

import itertools
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_numbers = itertools.count(1)


class Buckets:
    """`new()` makes a bucket; its URL is for `open_store`."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    def new(self, prefix: str = "db/one") -> str:
        bucket = f"bucket-{next(_numbers)}"
        request = urllib.request.Request(f"{self.endpoint}/{bucket}", method="PUT")
        urllib.request.urlopen(request, timeout=10).close()
        return f"s3://{bucket}/{prefix}"


@contextmanager
def running_s3() -> Iterator[Buckets]:
    """The server, and the environment by which it is found."""
    server_module = pytest.importorskip("moto.server")
    logging = pytest.importorskip("logging")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("NO_PROXY", "127.0.0.1")
        try:
            yield Buckets(f"http://{host}:{port}")
        finally:
            server.stop()
