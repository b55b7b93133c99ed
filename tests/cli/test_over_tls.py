"""`eventdb status` and `eventdb top` over TLS alone, with certificates, and as a user that may only look."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from eventdb.cli.app import app
from tests.conftest import free_port, wait_until
from tests.kit.certificates import Authority
from tests.kit.nodes import Nodes

WATCHER = ("--user", "watcher", "--password", "pw-of-watcher")
COMMANDS = (("status",), ("top", "--once", "--interval", "0.05"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("authority"))
    made.sign("server")
    made.sign("client")
    return made


def run(*argv: str) -> Result:
    result = CliRunner().invoke(app, [*argv])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "pw-of-watcher" not in result.output and "Traceback" not in result.output
    return result


def trusted(authority: Authority, *, certificate: bool = True) -> list[str]:
    place = f"{authority.folder}/client"
    own = ["--tls-cert-file", f"{place}.crt", "--tls-key-file", f"{place}.key"]
    return ["--tls-ca-cert-file", authority.file, *(own if certificate else [])]


@pytest.mark.parametrize("command", COMMANDS)
def test_nodes_that_speak_tls_only_are_looked_at_by_a_user_of_info(
    tmp_path: Path, authority: Authority, command: tuple[str, ...]
) -> None:
    settings = {"tls_auth_clients": "yes", "tls_replication": "yes"}
    with Nodes(tmp_path) as nodes:
        place = authority.folder / "server"
        first, second = (
            nodes.start(name, authority.settings(free_port(), place, **settings), follow_only=name == "b")
            for name in ("a", "b")
        )
        nodes.agree(first)

        port = str(first.config.tls.port)
        with (
            socket.create_connection(("127.0.0.1", first.config.tls.port), 10) as plain,
            authority.client(authority.folder / "client").wrap_socket(plain, server_hostname="127.0.0.1") as line,
        ):
            line.sendall(b"ACL SETUSER watcher on >pw-of-watcher +info\r\n")
            assert line.recv(100) == b"+OK\r\n"
        good = run(*command, "--port", port, *WATCHER, *trusted(authority))
        assert good.exit_code == 0 and "primary" in good.stdout, good.output
        if command[0] == "top":
            other = f"== 127.0.0.1:{second.config.tls.port}"
            wait_until(lambda: other in run(*command, "--all", "--port", port, *trusted(authority)).stdout, 30, other)
        for options, text in (
            ([*WATCHER, *trusted(authority, certificate=False)], ""),
            (WATCHER, ""),  # plain, to a TLS port
            (["--user", "watcher", "--password", "wrong", *trusted(authority)], "WRONGPASS"),
            ([*WATCHER, "--tls-ca-cert-file", f"{place}.key"], "--tls-ca-cert-file: "),
            ([*WATCHER, "--tls-cert-file", f"{place}.crt"], "--tls-ca-cert-file: TLS needs an authority"),
        ):
            refused = run(*command, "--port", port, *options)
            assert refused.exit_code == 2 and text in refused.output, (options, refused.output)
