"""Keys that a key of AWS KMS wraps, on a server that speaks KMS: contexts, rotation, a key that is gone, no KMS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eventdb.backends import aws_kms, keyrings
from eventdb.backends.keyrings import Contents, contents_of, store, wrapping
from eventdb.backends.seal import BadKeys, Keyring
from eventdb.cli.app import app
from tests.conftest import StartServer
from tests.kit.moto_kms import Kms, running_kms
from tests.kit.wire import Wire
from tests.project.test_dependencies import run_without

pytestmark = pytest.mark.slow
URL = "aws-kms:alias/eventdb?log=shop"


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kms]:
    monkeypatch.setattr(aws_kms, "AWAY_S", 0.0)
    with running_kms() as found:
        aws_kms._services.clear()
        found.new("eventdb")
        yield found
        aws_kms._services.clear()


def run(*argv: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, [*argv], env={"COLUMNS": "200"})
    assert done.exit_code == code, done.output
    return done.output


def wrapped(path: Path, *urls: str) -> str:
    """A keyring with a key for each of these; the last one is active."""
    contents = Contents()
    for url in urls:
        contents.active = contents.add(url)
    store(f"file:{path}", contents)
    return f"file:{path}"


def test_kms_wraps_a_key_and_its_context_names_key_and_log(kms: Kms, tmp_path: Path) -> None:
    url = wrapped(tmp_path / "keys.json", URL)
    text = (tmp_path / "keys.json").read_text()
    contents = contents_of(url)
    key = contents.key(1)
    assert len(key) == 32
    assert kms.asked == [(each, {"log": "shop", "eventdb": "eventdb data key 1"}) for each in ("encrypt", "decrypt")]
    assert "shop" in text and "c0rrect" not in text
    for other in ("aws-kms:alias/eventdb?log=other", "aws-kms:alias/eventdb"):
        contents.entries[1].wrapped_by = other
        locked = contents.key_set().locked[1]
        assert locked == f"{other} does not unwrap: InvalidCiphertextException: " + locked.rpartition(": ")[2]
    contents.entries[1].wrapped_by = URL
    contents.entries[2] = contents.entries[1]  # a wrapped key says whose it is
    assert set(contents.key_set().locked) == {2} and contents.key_set().keys == {1: key}


def test_an_alias_may_name_another_key_and_a_key_by_name_is_that_key(kms: Kms, tmp_path: Path) -> None:
    url = wrapped(tmp_path / "keys.json", URL)
    before = contents_of(url).key(1)
    second = kms.new("eventdb")
    assert contents_of(url).key(1) == before, "what wrapped it stands in the ciphertext"
    contents = contents_of(url)
    contents.entries[1].wrapped_by = f"aws-kms:{second}?log=shop"
    assert set(contents.key_set().locked) == {1}
    contents.entries[1].wrapped_by = URL
    contents.rewrap(1, f"aws-kms:{second}")
    assert contents.key(1) == before
    assert wrapping(f"aws-kms:{second}")._inner.region == "eu-central-1"  # type: ignore[attr-defined]


def test_rotation_by_the_command_and_a_running_keyring_takes_it(kms: Kms, tmp_path: Path) -> None:
    keys = f"file:{tmp_path}/keys.json"
    run("keys", "generate", "--keys", keys, "--wrapped-by", URL)
    run("keys", "rotate", "--keys", keys)
    known: dict[keyrings.Known, bytes] = {}
    keyring = Keyring(contents_of(keys).key_set(known), lambda: contents_of(keys).key_set(known))
    run("keys", "generate", "--keys", keys, "--wrapped-by", URL)
    run("keys", "rotate", "--keys", keys)
    keyring.look()
    assert (keyring.active, keyring.ids()) == (2, [1, 2])
    assert f"*     2  {contents_of(keys).entries[2].made}  {URL}  ok" in run("keys", "list", "--keys", keys)
    kms.new("other")
    run("keys", "rewrap", "--keys", keys, "--wrapped-by", "aws-kms:alias/other")
    assert contents_of(keys).key_set().keys == {each: keyring.key(each) for each in (1, 2)}


def test_a_key_that_was_revoked_is_named(kms: Kms, tmp_path: Path) -> None:
    arn = kms.new("eventdb")
    keys = wrapped(tmp_path / "keys.json", URL)
    known: dict[keyrings.Known, bytes] = {}
    keyring = Keyring(contents_of(keys).key_set(known), lambda: contents_of(keys).key_set(known))
    kms.client.disable_key(KeyId=arn.rpartition("/")[2])
    keyring.look()
    assert keyring.ids() == [1], "what was unwrapped is not asked for again"
    text = f"{URL} does not unwrap: DisabledException: {arn} is disabled."
    with pytest.raises(BadKeys, match=r"key 1, which is to seal new records, cannot be used: ") as failure:
        Keyring(contents_of(keys).key_set())
    assert text in str(failure.value)
    assert text in run("keys", "list", "--keys", keys, code=1)
    run("keys", "rotate", "--keys", keys, code=1)
    kms.client.enable_key(KeyId=arn.rpartition("/")[2])
    assert Keyring(contents_of(keys).key_set()).ids() == [1]


def test_a_server_goes_on_without_kms_and_none_starts(kms: Kms, tmp_path: Path, eventdb_server: StartServer) -> None:
    keys, log = wrapped(tmp_path / "keys.json", URL), f"quorum:{tmp_path}/data"
    server = eventdb_server(log, "--encryption-keys", keys)
    with Wire(server.port) as wire:
        assert wire("SET", "k", "before") == b"OK"
        kms.stop()
        assert wire("SET", "k", "without") == b"OK"
        server.kill()
        refused = eventdb_server(log, "--encryption-keys", keys, wait=False)
        assert refused.process.wait(60) == 1
        assert f"{URL} does not unwrap: Could not connect to the endpoint URL" in refused.text, refused.text
        assert "Traceback" not in refused.text and "c0rrect" not in refused.text
    kms.start()
    with Wire(eventdb_server(log, "--encryption-keys", keys).port) as wire:
        assert wire("GET", "k") == b"without"


def test_a_new_key_that_kms_does_not_unwrap_leaves_the_one_before(kms: Kms, tmp_path: Path) -> None:
    keys = wrapped(tmp_path / "keys.json", URL)
    known: dict[keyrings.Known, bytes] = {}
    keyring = Keyring(contents_of(keys).key_set(known), lambda: contents_of(keys).key_set(known))
    wrapped(tmp_path / "two.json", URL, URL)
    contents = contents_of(keys)
    contents.entries[2], contents.active = contents_of(f"file:{tmp_path}/two.json").entries[2], 2
    store(keys, contents)
    kms.stop()
    keyring.look()
    assert (keyring.active, keyring.ids()) == (1, [1])
    kms.start()
    keyring.look()
    assert (keyring.active, keyring.ids()) == (2, [1, 2])


def test_what_is_out_of_reach_is_waited_for_once(kms: Kms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_kms, "AWAY_S", 60.0)
    keys = wrapped(tmp_path / "keys.json", *[URL] * 4)
    kms.stop()
    asked: list[str] = []
    inner = aws_kms._service("")._client

    def decrypt(**arguments: object) -> object:
        asked.append("decrypt")
        return inner.decrypt(**arguments)

    monkeypatch.setattr(aws_kms._service(""), "_client", type("Client", (), {"decrypt": staticmethod(decrypt)}))
    assert set(contents_of(keys).key_set().locked) == {1, 2, 3, 4}
    assert asked == ["decrypt"]


@pytest.mark.parametrize(("url", "text"), [
    ("aws-kms:", "write aws-kms:KEY"),
    ("aws-kms:alias/a?log", "the encryption context is written"),
    ("aws-kms:alias/a?log=", "with a value"),
    ("aws-kms:alias/a?eventdb=x", "'eventdb' is not free"),
    ("aws-kms:alias/a?log=x&log=y", "each name stands once"),
])  # fmt: skip
def test_a_wrong_url_is_named(url: str, text: str) -> None:
    with pytest.raises(BadKeys, match=text):
        wrapping(url)


def test_without_region_credentials_or_the_key_it_says_so(kms: Kms, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadKeys, match=r"aws-kms:alias/none does not wrap: NotFoundException: .*alias/none"):
        Contents().add("aws-kms:alias/none")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    aws_kms._services.clear()
    with pytest.raises(BadKeys, match="aws-kms:alias/eventdb does not wrap: You must specify a region"):
        Contents().add("aws-kms:alias/eventdb")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    with pytest.raises(BadKeys, match="aws-kms:alias/eventdb does not wrap: Unable to locate credentials"):
        Contents().add("aws-kms:alias/eventdb")


def test_without_botocore_the_error_says_what_to_install() -> None:
    code = "from eventdb.backends.keyrings import Contents\nContents().add('aws-kms:alias/a')"
    done = run_without("botocore", code=code)
    assert (
        "aws-kms:alias/a does not wrap: it needs botocore, which is not installed: pip install 'eventdb[kms]'"
        in (done.stderr.splitlines()[-1])
    )
