"""Where keys come from: files, the environment, programs, plugins; what is refused, and that no error shows a key."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from eventdb.backends import BadLogURL, Corrupt, keyrings, open_log
from eventdb.backends.conformance import data_of, fill, read_all
from eventdb.backends.keyrings import Contents, contents_of, keyring_of, store
from eventdb.backends.seal import ENVIRONMENT, BadKeys, Keyring, KeySet
from tests.kit.keyring import key_of, keyring_file, ring

KEK = "ab" * 32


def locked_file(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o600)
    return f"file:{path}"


def test_a_keyring_comes_from_a_file_the_environment_or_a_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = keyring_file(tmp_path / "keys.json", 1, 2)
    text = (tmp_path / "keys.json").read_text()
    monkeypatch.setenv("THE_KEYS", text)
    for each in (url, "env:THE_KEYS", f"command:cat {tmp_path}/keys.json"):
        found = contents_of(each).key_set()
        assert (found.active, found.keys, found.locked) == (2, {1: key_of(1), 2: key_of(2)}, {})
    assert (tmp_path / "keys.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("url", "text"), [
    ("file:{}/missing", "missing: No such file"),
    ("file:{}/open", r"can be read by others \(mode 0644\): chmod 600"),
    ("file:{}/noise", "holds no keyring"),
    ("file:{}", "is not a file"),
    ("env:NO_SUCH_NAME", "there is no such environment variable"),
    ("command:false", "ends with code 1"),
    ("command:no-such-program", "cannot be run"),
    ("command:sh -c 'echo because >&2; exit 3'", "ends with code 3: because"),
    ("/just/a/path", "names no keys: write file:PATH"),
    ("", "names no keys"),
])  # fmt: skip
def test_what_cannot_be_a_keyring_is_refused_with_the_reason(tmp_path: Path, url: str, text: str) -> None:
    keyring_file(tmp_path / "open", 1)
    (tmp_path / "open").chmod(0o644)
    locked_file(tmp_path / "noise", '{"keys": {"1": {"key": "c2VjcmV0IQ"}}}')
    with pytest.raises(BadKeys, match=text) as failure:
        contents_of(url.format(tmp_path))
    assert "c2VjcmV0" not in str(failure.value)


def test_a_program_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyrings, "COMMAND_S_MAX", 0.05)
    with pytest.raises(BadKeys, match="does not end within"):
        contents_of("command:sleep 30")


@pytest.mark.parametrize(("contents", "text"), [
    (KeySet(1, {1: b"short"}), "key 1 has 5 bytes, not 32"),
    (KeySet(1, {70_000: key_of(1)}), "key id 70000 is not within"),
    (KeySet(4, {1: key_of(1)}), "key 4, which is to seal new records, cannot be used: it is not there: there is 1"),
    (KeySet(4, {}, {4: "the KMS says no"}), "key 4, which is to seal new records, cannot be used: the KMS says no"),
])  # fmt: skip
def test_a_keyring_that_could_not_seal_is_refused_at_the_start(contents: KeySet, text: str) -> None:
    with pytest.raises(BadKeys, match=text):
        Keyring(contents)


def test_keys_are_wrapped_and_wrapped_anew_and_stay_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEK", KEK)
    other = locked_file(tmp_path / "kek", "cd" * 32 + "\n")
    contents = Contents()
    assert (contents.add("env:KEK"), contents.add()) == (1, 2)
    contents.active = 1
    before = contents.key_set().keys
    assert contents.entries[1].key != before[1]
    store(f"file:{tmp_path}/keys.json", contents)
    again = contents_of(f"file:{tmp_path}/keys.json")
    assert again.key_set().keys == before
    for key_id in (1, 2):
        again.rewrap(key_id, other)
    assert again.key_set().keys == before
    assert {entry.wrapped_by for entry in again.entries.values()} == {other}
    again.entries[1].wrapped_by = "env:KEK"
    assert again.key_set().locked == {1: "env:KEK is not the key that wrapped it"}
    again.entries[1], again.entries[2] = again.entries[2], again.entries[1]  # a wrapped key says whose it is
    assert set(again.key_set().locked) == {1, 2}
    with pytest.raises(BadKeys, match="key 1, which is to seal new records, cannot be used: "):
        Keyring(again.key_set())


PLUGIN = '''
class Vault:
    """A KMS as it stands behind a plugin: the key never leaves it, and it can refuse."""
    def __init__(self, url): self.url = url
    def wrap(self, key, about): return self.url.encode() + b"|" + about + b"|" + bytes(b ^ 0x5a for b in key)
    def unwrap(self, wrapped, about):
        url, said, key = wrapped.split(b"|", 2)
        if (url.decode(), said) != (self.url, about): raise RuntimeError("AccessDenied")
        return bytes(b ^ 0x5a for b in key)
'''


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution with the entry point `vault` in the group `eventdb.keys`."""
    (tmp_path / "test_vault.py").write_text(PLUGIN)
    meta = tmp_path / "test_vault-1.0.dist-info"
    meta.mkdir()
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: test-vault\nVersion: 1.0\n")
    (meta / "entry_points.txt").write_text(
        "[eventdb.keys]\nvault = test_vault:Vault\nbroken = test_vault:nothing\nodd = builtins:str\n"
    )
    for name in ("Other", "Second"):
        other = tmp_path / f"test_{name}-1.0.dist-info"
        other.mkdir()
        (other / "METADATA").write_text(f"Metadata-Version: 2.1\nName: test-{name}\nVersion: 1.0\n")
        (other / "entry_points.txt").write_text(f"[eventdb.keys]\ntwice = test_vault:{name}\n")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("vault")
async def test_a_plugin_wraps_the_keys_of_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = Contents()
    contents.active = contents.add("vault:alias/db")
    store(f"file:{tmp_path}/keys.json", contents)
    log = open_log(f"quorum:{tmp_path}/log?zones=1", keys=f"file:{tmp_path}/keys.json")
    await fill(await log.claim("node"), [b"value"])
    assert data_of(await read_all(log)) == [b"value"]
    await log.close()
    keyring = keyring_of(f"file:{tmp_path}/keys.json")
    assert keyring is not None
    monkeypatch.setattr("test_vault.Vault.unwrap", None)  # what was unwrapped is not asked for again
    for added in (2, 3):
        contents.active = contents.add()
        store(f"file:{tmp_path}/keys.json", contents)
        keyring.look()
        assert (keyring.active, keyring.ids()) == (added, [*range(1, added + 1)])
    monkeypatch.undo()
    monkeypatch.syspath_prepend(str(tmp_path))
    contents.entries[1].wrapped_by = "vault:alias/other"
    assert contents.key_set().locked == {1: "vault:alias/other does not unwrap: AccessDenied"}
    for url, text in (
        ("vaults:x", "no key provider is called 'vaults': there are file:, env:, command:, .*aws-kms:, .*vault:"),
        ("twice:x", "twice:x: is claimed by test_vault:Other, test_vault:Second"),
        ("odd:x", "odd:x: what the key provider returns cannot wrap and unwrap"),
        ("broken:x", "broken:x: the key provider does not load: .*no attribute 'nothing'"),
    ):
        with pytest.raises(BadKeys, match=text):
            contents.rewrap(1, url) if contents.entries[1].wrapped_by == "" else keyrings.wrapping(url)


async def test_every_program_that_opens_a_log_takes_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"quorum:{tmp_path}/log?zones=1"
    monkeypatch.setenv(ENVIRONMENT, keyring_file(tmp_path / "keys.json", 3))
    log = open_log(url)
    await fill(await log.claim("node"), [b"value"])
    await log.close()
    monkeypatch.delenv(ENVIRONMENT)
    log = open_log(url)
    with pytest.raises(Corrupt, match="sealed with key 3, and no keys are given"):
        await read_all(log)
    await log.close()


def test_the_same_keyring_is_one_object_and_is_read_again(tmp_path: Path) -> None:
    url = keyring_file(tmp_path / "keys.json", 1)
    first = keyring_of(url)
    assert first is not None and first is keyring_of(url)
    keyring_file(tmp_path / "keys.json", 1, 2)
    first.look()
    assert (first.active, first.ids()) == (2, [1, 2])
    (tmp_path / "keys.json").unlink()
    first.look()  # logged; what was there is used
    assert (first.active, first.ids()) == (2, [1, 2])


def test_a_backend_that_cannot_encrypt_is_refused_and_memory_needs_no_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from eventdb.backends import registry

    open_log("memory:", keys=ring(1))
    monkeypatch.setattr(registry, "_backend", lambda scheme, url: lambda url: object())
    with pytest.raises(BadLogURL, match="the backend for other: cannot encrypt, and encryption keys are given"):
        open_log("other:", keys=ring(1))


def test_without_the_library_the_error_says_what_to_install(tmp_path: Path) -> None:
    url = keyring_file(tmp_path / "keys.json", 1)
    code = (
        "import sys\nsys.modules['cryptography'] = None\nimport eventdb\n"
        "with eventdb.open_sync('memory:') as db: print(db.execute('SET', 'k', 'v'))\n"
        f"eventdb.open_sync('memory:', encryption_keys={url!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ)
    assert done.stdout == "b'OK'\n", "nothing is needed where no keys are given"
    assert "pip install 'eventdb[crypto]'" in done.stderr.splitlines()[-1]


def test_a_keyring_in_the_old_order_of_its_fields_is_read(tmp_path: Path) -> None:
    """What stands in a keyring is read for ever; an unknown field is no error."""
    text = json.dumps({"note": 1, "keys": {"1": {"key": "AAAA" * 10 + "AAA=", "other": 2}}, "active": 0})
    assert contents_of(locked_file(tmp_path / "k", text)).key_set().keys == {1: bytes(32)}
