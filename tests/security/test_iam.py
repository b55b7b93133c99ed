"""Logging in with tokens: made by botocore as Amazon's samples make them, used by redis-py, and refused."""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
import redis
from botocore.model import ServiceId
from botocore.session import Session
from botocore.signers import RequestSigner
from hypothesis import given
from hypothesis import strategies as st

from eventdb.security.iam import Iam, Refused, make, parse
from eventdb.security.key_stores import KeyCommand
from eventdb.security.policies import AccessKey, BadKeys, read_keys
from tests.kit.harness import Local
from tests.kit.nodes import Nodes

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
ARN = "arn:aws:memorydb:eu-central-1:000000000000:"
MAY = {"Effect": "Allow", "Action": "memorydb:connect", "Resource": [f"{ARN}cluster/shop", f"{ARN}user/alice"]}
ENTRY = {"access_key_id": "AKIDALICE", "secret_access_key": SECRET, "policies": [{"Statement": [MAY]}]}
KEY = read_keys(json.dumps(ENTRY))["AKIDALICE"]
NOW = 1_790_000_000.0


class Known:
    """Keys that are at hand."""

    def __init__(self, *keys: AccessKey) -> None:
        self.keys = {key.key_id: key for key in keys}

    def find(self, key_id: str) -> AccessKey | None:
        return self.keys.get(key_id)


IAM = Iam("shop", Known(KEY), "eu-central-1")


def signed_by_botocore(
    cluster: str = "shop", user: str = "alice", service: str = "memorydb", session_token: str | None = None, **more: str
) -> str:
    """As the samples of ElastiCache and MemoryDB do it."""
    session = Session()
    session.set_credentials("AKIDALICE", SECRET, session_token)
    credentials, events = session.get_credentials(), session.get_component("event_emitter")
    signer = RequestSigner(ServiceId(service), "eu-central-1", service, "v4", credentials, events)
    query = urlencode({"Action": "connect", "User": user, **more})
    request = {"method": "GET", "url": f"https://{cluster}/?{query}", "body": {}, "headers": {}, "context": {}}
    url: str = signer.generate_presigned_url(
        request, operation_name="connect", expires_in=900, region_name="eu-central-1"
    )
    return url.removeprefix("https://")


def test_a_token_of_botocore_lets_in() -> None:
    IAM.verify("alice", signed_by_botocore(), time.time())
    IAM.verify("alice", "http://" + signed_by_botocore(), time.time())


def test_a_token_of_temporary_credentials_bears_their_session_token() -> None:
    temporary = AccessKey(KEY.key_id, KEY.secret, "Fwo/Gz+IvYXdz==", statements=KEY.statements)
    token = signed_by_botocore(session_token="Fwo/Gz+IvYXdz==")
    Iam("shop", Known(temporary)).verify("alice", token, time.time())
    with pytest.raises(Refused, match="session token"):
        IAM.verify("alice", token, time.time())
    with pytest.raises(Refused, match="session token"):
        Iam("shop", Known(temporary)).verify("alice", signed_by_botocore(), time.time())


def test_a_token_for_a_serverless_cache_needs_that_resource() -> None:
    resource = "arn:aws:elasticache:eu-central-1:000000000000:"
    may = {"Effect": "Allow", "Action": "elasticache:Connect"}
    for kind, serverless in (("serverlesscache", True), ("replicationgroup", False)):
        statement = {**may, "Resource": [f"{resource}{kind}:shop", f"{resource}user:*"]}
        key = read_keys(json.dumps({**ENTRY, "policies": [{"Statement": statement}]}))["AKIDALICE"]
        more = {"ResourceType": "ServerlessCache"} if serverless else {}
        Iam("shop", Known(key)).verify("alice", signed_by_botocore(service="elasticache", **more), time.time())
        other = {} if serverless else {"ResourceType": "ServerlessCache"}
        with pytest.raises(Refused, match="no policy"):
            Iam("shop", Known(key)).verify("alice", signed_by_botocore(service="elasticache", **other), time.time())


def test_our_own_tokens_are_those_of_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = parse(signed_by_botocore())
    made_s = time.mktime(time.strptime(theirs.query["X-Amz-Date"], "%Y%m%dT%H%M%SZ")) - time.timezone
    assert parse(make("shop", "alice", KEY, region="eu-central-1", now_s=made_s)) == theirs


def token(**changes: str) -> str:
    """A good token of ours, with parts replaced after signing."""
    found = parse(make("shop", "alice", KEY, region="eu-central-1", now_s=NOW))
    query = found.query | {name.replace("_", "-"): value for name, value in changes.items()}
    return "shop/?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items() if value)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (token(X_Amz_Expires="901"), "good for '901' seconds"),
        (token(X_Amz_Expires="3600"), "good for '3600' seconds"),
        (token(X_Amz_Expires="0"), "good for '0' seconds"),
        (token(X_Amz_Expires="²"), "good for"),
        (token(User="bob"), "made for the user 'bob'"),
        (token(Action="flushall"), "Action is 'flushall'"),
        (token(X_Amz_Signature="0" * 64), "another secret, or it was changed"),
        (token(X_Amz_Signature="zz"), "64 hexadecimal digits"),
        (token(X_Amz_Expires="600"), "another secret, or it was changed"),
        (token(X_Amz_SignedHeaders="host;x"), "not signed by"),
        (token(X_Amz_Algorithm="none"), "not signed by"),
        (token(X_Amz_Date="20260922"), "X-Amz-Date is not"),
        (token(X_Amz_Date="20250921T000000Z"), "another day"),
        (token(X_Amz_Credential="AKIDALICE/20260921/eu-central-1/s3/aws4_request"), "the service 's3'"),
        (token(X_Amz_Credential="AKIDALICE"), "X-Amz-Credential is not"),
        (token(X_Amz_Credential="AKIDBOB/20260921/eu-central-1/memorydb/aws4_request"), "no access key 'AKIDBOB'"),
        (token(X_Amz_Credential="AKIDALICE/20260921/us-east-1/memorydb/aws4_request"), "the region 'us-east-1'"),
        (token(X_Amz_Signature=""), "lacks X-Amz-Signature"),
        (token().replace("shop/?", "other/?"), "the cluster 'other'"),
        (token() + "&User=bob", "stands in it twice"),
        (token() + "&us%65r=bob", "no token has"),
        ("sesame", "it is no token"),
        ("/?", "it is no token"),
        ("x" * 9000, "longer than"),
    ],
)  # fmt: skip
def test_what_is_refused_and_why(made: str, why: str) -> None:
    IAM.verify("alice", token(), NOW + 1)
    with pytest.raises(Refused, match=why) as refused:
        IAM.verify("alice", made, NOW + 1)
    assert SECRET not in str(refused.value) and "X-Amz-Signature=" not in str(refused.value)


@pytest.mark.parametrize(
    ("at", "why"),
    [(-301, "in the future"), (-299, ""), (0, ""), (899, ""), (900, "expired"), (86_400, "expired 85500 s ago")],
)
def test_a_token_is_good_for_minutes_around_its_own_clock(at: float, why: str) -> None:
    if not why:
        IAM.verify("alice", token(), NOW + at)
        return
    with pytest.raises(Refused, match=why):
        IAM.verify("alice", token(), NOW + at)


@given(
    st.text(max_size=200)
    | st.builds(
        lambda a, b, c: token()[:a] + b + token()[c:], st.integers(0, 400), st.text(max_size=9), st.integers(0, 400)
    )
)
def test_no_other_text_lets_in(text: str) -> None:
    if text == token():
        return
    with pytest.raises(Refused):
        IAM.verify("alice", text, NOW)


@pytest.mark.parametrize(
    ("statements", "may"),
    [
        ([], False),
        ([MAY], True),
        ([{**MAY, "Resource": "*"}], True),
        ([{**MAY, "Action": ["MemoryDB:Connect"]}], True),
        ([{**MAY, "Action": "memorydb:*", "Resource": [f"{ARN}cluster/sh?p", f"{ARN}user/a*"]}], True),
        ([{**MAY, "Action": "elasticache:connect"}], False),
        ([{**MAY, "Resource": f"{ARN}cluster/shop"}], False),
        ([{**MAY, "Resource": f"{ARN}user/alice"}], False),
        ([{**MAY, "Resource": [f"{ARN}cluster/shop", f"{ARN}user/alice.*"]}], False),
        ([MAY, {**MAY, "Effect": "Deny", "Resource": f"{ARN}user/*"}], False),
        ([MAY, {**MAY, "Effect": "Deny", "Resource": f"{ARN}user/bob"}], True),
    ],
)
def test_policies(statements: list[dict[str, object]], may: bool) -> None:
    key = read_keys(json.dumps({**ENTRY, "policies": [{"Version": "2012-10-17", "Statement": statements}]}))[
        "AKIDALICE"
    ]
    assert key.may_connect("memorydb", "eu-central-1", "shop", "alice") is may


@pytest.mark.parametrize(
    "wrong",
    [
        "", "[]", "{}", '{"keys": 1}', '{"keys": [1]}', json.dumps({"keys": [ENTRY, ENTRY]}),
        json.dumps({**ENTRY, "secret": "x"}),
        json.dumps({**ENTRY, "policies": [{"Statement": [{**MAY, "Condition": {}}]}]}),
        json.dumps({**ENTRY, "policies": [{"Statement": [{"Effect": "Allow", "NotAction": "x", "Resource": "*"}]}]}),
        json.dumps({**ENTRY, "policies": [{"Statement": [{**MAY, "Effect": "allow"}]}]}),
        json.dumps({**ENTRY, "policies": [{"Statement": [{**MAY, "Resource": []}]}]}),
        json.dumps({**ENTRY, "policies": ["x"]}), json.dumps({"access_key_id": "A"}),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused_without_the_secret(wrong: str) -> None:
    with pytest.raises(BadKeys) as refused:
        read_keys(wrong)
    assert SECRET not in str(refused.value)
    assert SECRET not in repr(KEY)


# -- at a server


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [ENTRY]}))
    return path


class Credentials(redis.CredentialProvider):
    """As Amazon's sample for redis-py: a new token for each connection."""

    def get_credentials(self) -> tuple[str, str]:
        return "alice", signed_by_botocore()


def add_alice(port: int) -> None:
    with redis.Redis(port=port) as admin:
        admin.execute_command("ACL", "SETUSER", "alice", "on", "iam", "~cart:*", "+@all")


@pytest.mark.slow
def test_redis_py_logs_in_with_the_samples_provider(
    tmp_path: Path, key_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Nodes(tmp_path) as nodes:
        server = nodes.start("one", {"iam-cluster-name": "shop", "iam-key-file": str(key_file)})
        add_alice(server.port)
        for protocol in (2, 3):
            with redis.Redis(port=server.port, credential_provider=Credentials(), protocol=protocol) as client:
                assert client.set("cart:1", "apples") and client.acl_whoami() in ("alice", b"alice")
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.get("other")
        with redis.Redis(port=server.port) as admin:
            assert b"user alice on iam " in b"".join(admin.execute_command("ACL", "LIST"))
            for password in ("sesame", token()):
                with pytest.raises(redis.exceptions.AuthenticationError, match="invalid username-password pair"):
                    admin.execute_command("AUTH", "alice", password)
            key_file.write_text("{")
            with pytest.raises(redis.exceptions.AuthenticationError):
                admin.execute_command("AUTH", "alice", signed_by_botocore())
    said = "\n".join(record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING)
    assert "for the user 'alice' was refused: it is no token" in said
    assert SECRET not in said and "X-Amz-Signature" not in said


def _ping(client: redis.Redis) -> object:
    """On its one connection, which is not opened anew."""
    assert client.connection is not None
    client.connection.send_command("PING")
    return client.connection.read_response()


def test_a_session_ends_unless_it_authenticates_again(tmp_path: Path, key_file: Path) -> None:
    settings = {"iam-cluster-name": "shop", "iam-key-file": str(key_file), "iam-session-seconds": "3"}
    with Nodes(tmp_path) as nodes:
        server = nodes.start("one", settings)
        add_alice(server.port)
        kept = redis.Redis(port=server.port, credential_provider=Credentials(), single_connection_client=True)
        lost = redis.Redis(port=server.port, credential_provider=Credentials(), single_connection_client=True)
        with kept, lost, redis.Redis(port=server.port) as admin:
            assert _ping(lost) == b"PONG"
            deadline = time.monotonic() + 4.5
            while time.monotonic() < deadline:
                kept.execute_command("AUTH", "alice", signed_by_botocore())
                time.sleep(0.25)
            with pytest.raises(redis.exceptions.ConnectionError):
                _ping(lost)
            assert _ping(kept) == b"PONG"
            assert admin.ping()  # who came in without a token stays


def test_a_command_that_knows_keys_is_asked_beside_the_loop(tmp_path: Path) -> None:
    program = tmp_path / "look-up.py"
    go, asked = tmp_path / "go", tmp_path / "asked"
    program.write_text(
        "import pathlib, sys, time\n"
        f"open({str(asked)!r}, 'a').write(sys.argv[1] + '\\n')\n"
        f"while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)\n"
        f"print({json.dumps(json.dumps(ENTRY))} if sys.argv[1] == 'AKIDALICE' else '')\n"
    )
    settings = {"iam-cluster-name": "shop", "iam-key-command": f"{sys.executable} {program}"}
    with Nodes(tmp_path) as nodes:
        server = nodes.start("one", settings)
        add_alice(server.port)
        with (
            redis.Redis(port=server.port, single_connection_client=True) as one,
            redis.Redis(port=server.port) as other,
        ):
            one.connection.send_command("AUTH", "alice", signed_by_botocore())
            while not asked.exists():
                time.sleep(0.01)
            assert other.ping()  # while the command still runs
            go.touch()
            assert one.connection.read_response() == b"OK"
            assert one.execute_command("ACL", "WHOAMI") == b"alice"
            one.execute_command("HELLO", "3", "AUTH", "alice", signed_by_botocore())
            assert asked.read_text() == "AKIDALICE\n"  # it is known for a while


@pytest.mark.parametrize(
    ("command", "why"),
    [("false", "ended with 1"), ("/no/such/command", "No such file"), ("echo {", "no JSON"), ("true", "no access key")],
)
def test_a_command_that_fails_lets_nobody_in(command: str, why: str) -> None:
    from eventdb.security.iam import Pending

    iam = Iam("shop", KeyCommand(command))
    with pytest.raises(Pending) as pending:
        iam.verify("alice", token(), NOW)
    pending.value.lookup()
    with pytest.raises(Refused, match=why):
        iam.verify("alice", token(), NOW)


def test_a_user_with_tokens_is_in_the_log_as_such_and_a_password_ends_it() -> None:
    local = Local()
    assert local.raw("ACL", "SETUSER", "alice", "on", "iam", "~*", "+@all") == b"+OK\r\n"
    assert b"user alice on iam ~*" in local.raw("ACL", "LIST")
    assert any(b"on iam" in body for body in local.log)
    assert local.raw("AUTH", "alice", "x").startswith(b"-WRONGPASS")
    local.raw("ACL", "SETUSER", "alice", ">sesame")
    assert local.raw("AUTH", "alice", "sesame") == b"+OK\r\n"
    assert b" iam " not in local.raw("ACL", "LIST")


def test_the_command_line_makes_a_token(
    key_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from eventdb.cli.app import app

    arguments = ["iam", "token", "--cluster", "shop", "--user", "alice", "--region", "eu-central-1"]
    app([*arguments, "--key-file", str(key_file)], standalone_mode=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDALICE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    app(arguments, standalone_mode=False)
    for printed in capsys.readouterr().out.split():
        IAM.verify("alice", printed, time.time())
