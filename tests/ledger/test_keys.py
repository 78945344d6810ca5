from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stead.host import LocalHost
from stead.ledger.key_files import KeyFiles
from stead.ledger.keys import KeyRing, KeyRow, origin_of, rotation_text
from stead.ledger.seal import SystemdCreds
from stead.ledger.store import LedgerStore
from stead.model.errors import SteadError
from stead.protocols import Completed
from stead.testing import FakeClock, FakeHost
from stead.tlog.keys import parse_signing_key, parse_vkey, verify
from stead.tlog.strict import decode64
from tests.ledger.kit import ANN, check_log, note, opened, signed_by

DAY_MS = 86_400_000
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can seal by the machine's key")


def names(place: Path) -> dict[str, int]:
    """Files of the key directory with their modes."""
    return {path.name: path.stat().st_mode & 0o777 for path in sorted((place / "keys").iterdir())}


def id_of(vkey: str) -> str:
    return parse_vkey(vkey).id.hex()


# -- the first key


def test_the_first_start_makes_a_private_key_that_others_tools_can_read(tmp_path: Path) -> None:
    store = opened(tmp_path)
    (vkey,) = store.vkeys()
    assert names(tmp_path) == {f"{id_of(vkey)}.key": 0o600, f"{id_of(vkey)}.vkey": 0o600}
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "keys" / f"{id_of(vkey)}.vkey").read_text() == f"{vkey}\n"
    secret = (tmp_path / "keys" / f"{id_of(vkey)}.key").read_text()
    assert secret.startswith(f"PRIVATE+KEY+host1/ledger+{id_of(vkey)}+")
    assert parse_signing_key(secret.strip()).verifier.text == vkey
    (shown,) = store.keys()
    assert shown.vkey == vkey and shown.active and not shown.sealed and shown.place == str(tmp_path / f"keys/{id_of(vkey)}.key")
    check_log(store)
    store.close()
    again = opened(tmp_path)
    assert again.vkeys() == (vkey,)
    again.close()


@pytest.mark.parametrize(
    ("host", "former", "origin"),
    [
        ("web-1.example.net", (), "web-1.example.net/ledger"),
        ("my host+1", (), "my-host-1/ledger"),
        ("", (), "localhost/ledger"),
        ("h", ("h/ledger",), "h/ledger/2"),
        ("h", ("h/ledger", "h/ledger/2", "h/ledger/9"), "h/ledger/10"),
        ("h", ("other/ledger", "h/ledger/x"), "h/ledger"),
    ],
)
def test_a_logs_name_is_its_hosts_and_never_used_twice(host: str, former: tuple[str, ...], origin: str) -> None:
    assert origin_of(host, former) == origin


async def test_the_name_stays_when_the_host_is_renamed(tmp_path: Path) -> None:
    opened(tmp_path).close()
    store = LedgerStore.open(tmp_path / "ledger.db", "renamed", FakeClock())
    assert store.origin == "host1/ledger"
    await store.commit([note()])
    check_log(store)
    store.close()


# -- kill -9 while the first key is made

KILLED = """
import os, signal, sys
from pathlib import Path
from tests.ledger.kit import Watched, opened
def die(sql):
    if sql.strip().startswith(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
opened(Path(sys.argv[1]), connect=Watched(die))
"""


@pytest.mark.parametrize(
    ("statement", "durable"),
    [
        ("CREATE TABLE keys", 0),
        ("INSERT OR REPLACE INTO keys", 0),
        ("COMMIT", 0),
        ("SELECT vkey", 1),
        ("SELECT data FROM holds", 1),
    ],
)
def test_a_key_survives_a_kill_or_is_cleaned_away(tmp_path: Path, statement: str, durable: bool) -> None:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), statement], env=environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    left = set(names(tmp_path)) if (tmp_path / "keys").exists() else set()
    store = opened(tmp_path)
    (vkey,) = store.vkeys()
    assert store.origin == "host1/ledger", "what signed nothing is no former log"
    assert set(names(tmp_path)) == {f"{id_of(vkey)}.key", f"{id_of(vkey)}.vkey"}
    assert (f"{id_of(vkey)}.key" in left) == durable
    check_log(store)
    store.close()


# -- a key that can't be used


def break_missing(path: Path) -> None:
    path.unlink()


def break_open(path: Path) -> None:
    path.chmod(0o640)


def break_damaged(path: Path) -> None:
    path.write_text("PRIVATE+KEY+what")


def break_foreign(path: Path) -> None:
    files = KeyFiles(path.parent.parent / "other")
    KeyRing(files).make("host9/ledger")
    (other,) = files.directory.iterdir()
    path.write_text(other.read_text())


@pytest.mark.parametrize(
    ("breaks", "code", "words"),
    [
        (break_missing, "ledger.key-missing", "restore"),
        (break_open, "ledger.key-open", "chmod 600"),
        (break_damaged, "ledger.key-damaged", "restore"),
        (break_foreign, "ledger.key-foreign", "host9/ledger"),
    ],
)
def test_a_key_that_cannot_be_used_is_named_with_its_file(
    tmp_path: Path, breaks: Callable[[Path], None], code: str, words: str
) -> None:
    store = opened(tmp_path)
    place = Path(store.keys()[0].place)
    store.close()
    breaks(place)
    with pytest.raises(SteadError, match=words) as caught:
        opened(tmp_path)
    assert caught.value.problem.code == code and caught.value.problem.where == str(place)
    assert "PRIVATE" not in str(caught.value)


def test_a_sealed_key_without_what_sealed_it(tmp_path: Path) -> None:
    store = opened(tmp_path, keys=KeyRing(KeyFiles(tmp_path / "keys", Rot13())))
    assert store.keys()[0].sealed
    store.close()
    with pytest.raises(SteadError, match="sealed") as caught:
        opened(tmp_path)
    assert caught.value.problem.code == "ledger.key-sealed"


async def test_what_was_left_open_is_put_right(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir(mode=0o755)
    opened(tmp_path).close()
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700


# -- rotation


async def test_both_keys_sign_for_the_overlap_and_then_the_old_one_is_gone(tmp_path: Path) -> None:
    clock = FakeClock()
    store = opened(tmp_path, clock=clock)
    await store.commit([note()])
    (old,) = store.vkeys()
    new = (await store.rotate_key(ANN)).text
    assert store.vkeys() == (new, old) and signed_by(store.checkpoint, new) and signed_by(store.checkpoint, old)
    assert parse_vkey(new).name == parse_vkey(old).name == store.origin
    clock.advance(29 * DAY_MS)
    store.close()
    store = opened(tmp_path, clock=clock)
    await store.commit([note()])
    assert store.vkeys() == (new, old)
    check_log(store)
    clock.advance(2 * DAY_MS)
    await store.commit([note()])
    assert store.vkeys() == (new,) and not signed_by(store.checkpoint, old)
    assert f"{id_of(old)}.key" not in names(tmp_path) and f"{id_of(new)}.key" in names(tmp_path)
    new_key, old_key = store.keys()
    assert new_key.active and not old_key.active and old_key.place == ""
    check_log(store)
    store.close()
    store = opened(tmp_path, clock=clock)
    assert store.vkeys() == (new,)
    store.close()


async def test_an_old_key_goes_at_the_next_start_too(tmp_path: Path) -> None:
    clock = FakeClock()
    store = opened(tmp_path, clock=clock)
    (old,) = store.vkeys()
    await store.rotate_key(ANN)
    store.close()
    clock.advance(31 * DAY_MS)
    store = opened(tmp_path, clock=clock)
    assert f"{id_of(old)}.key" not in names(tmp_path)
    await store.commit([note()])
    check_log(store)
    store.close()


async def test_the_rotation_is_an_entry_that_both_keys_signed(tmp_path: Path) -> None:
    store = opened(tmp_path, keys=KeyRing(KeyFiles(tmp_path / "keys"), overlap_days=1.0))
    (old,) = store.vkeys()
    new = (await store.rotate_key(ANN)).text
    leaf = json.loads(store.entries(1)[0].leaf)
    body = leaf["body"]
    assert leaf["type"] == "key.rotated" and leaf["actor"] == {"id": "uid:1000", "kind": "user"}
    assert (body["old"], body["new"], body["about"]) == (old, new, store.origin)
    assert body["overlap_until_ms"] == FakeClock().unix_ms + DAY_MS
    for key, by in ((old, "old_signature"), (new, "new_signature")):
        assert verify(parse_vkey(key), rotation_text(store.origin, old, new), decode64(body[by], 64))
    store.close()


async def test_a_rotation_that_fails_leaves_the_key_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tmp_path)
    before = names(tmp_path)

    def refuse(*_: object) -> None:
        raise SteadError("no", code="test.no")

    monkeypatch.setattr("stead.ledger.tables.put_key", refuse)
    with pytest.raises(SteadError, match="no"):
        await store.rotate_key(ANN)
    assert names(tmp_path) == before and len(store.vkeys()) == 1 and store.size == 0
    monkeypatch.undo()
    await store.rotate_key(ANN)
    check_log(store)
    store.close()


async def test_of_two_rotations_at_once_one_is_refused(tmp_path: Path) -> None:
    store = opened(tmp_path)
    results = await asyncio.gather(store.rotate_key(ANN), store.rotate_key(ANN), store.commit([note()]), return_exceptions=True)
    (refused,) = [result for result in results if isinstance(result, SteadError)]
    assert refused.problem.code == "key.changed"
    assert len(store.vkeys()) == 2 and len(list((tmp_path / "keys").glob("*.key"))) == 2 and store.size == 2
    check_log(store)
    store.close()


async def test_a_third_key_while_two_overlap(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for count in (2, 3):
        await store.rotate_key(ANN)
        assert len(store.vkeys()) == count
        check_log(store)
    store.close()
    store = opened(tmp_path)
    assert len(store.vkeys()) == 3
    store.close()


def test_rows_say_when_a_key_signs() -> None:
    assert KeyRow("k", 0, None).signs(10**15) and KeyRow("k", 0, 5).signs(4) and not KeyRow("k", 0, 5).signs(5)


# -- sealing


class Rot13:
    """A seal that any child can break, and that knows its names."""

    def seal(self, name: str, secret: bytes) -> bytes | None:
        return name.encode() + b"\n" + bytes(255 - byte for byte in secret)

    def unseal(self, name: str, sealed: bytes) -> bytes:
        told, _, data = sealed.partition(b"\n")
        assert told.decode() == name
        return bytes(255 - byte for byte in data)


async def test_a_sealed_key_is_no_text_on_disk(tmp_path: Path) -> None:
    def ring() -> KeyRing:
        return KeyRing(KeyFiles(tmp_path / "keys", Rot13()))

    store = opened(tmp_path, keys=ring())
    (vkey,) = store.vkeys()
    assert names(tmp_path) == {f"{id_of(vkey)}.cred": 0o600, f"{id_of(vkey)}.vkey": 0o600}
    assert b"PRIVATE" not in (tmp_path / "keys" / f"{id_of(vkey)}.cred").read_bytes()
    store.close()
    store = opened(tmp_path, keys=ring())
    await store.rotate_key(ANN)
    check_log(store)
    new, old = store.keys()
    assert new.sealed and old.sealed
    store.close()


class Answering(FakeHost):
    """A host whose systemd-creds does as it is told; it keeps what came by argv and by stdin."""

    def __init__(self, place: Path, does: Callable[[str, bytes], Completed]) -> None:
        super().__init__(place)
        self.does, self.fed = does, list[bytes]()

    async def run(self, argv: object, timeout_s: float, stdin: bytes = b"", limit: int = 1 << 20) -> Completed:
        assert isinstance(argv, list)
        self.commands.append(tuple(argv))
        self.fed.append(stdin)
        return self.does(argv[1], stdin)


def reversing(verb: str, data: bytes) -> Completed:
    return Completed(0, data.decode()[::-1], "")


def test_systemd_seals_where_it_runs_the_machine(tmp_path: Path) -> None:
    host = Answering(tmp_path, reversing)
    assert SystemdCreds(host).seal("n", b"secret") is None and host.commands == [], "a container without systemd"
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert SystemdCreds(host).seal("n", b"secret") == b"terces"
    assert host.commands[0] == ("systemd-creds", "encrypt", "--name=n", "-", "-") and host.fed[0] == b"secret"
    assert not any("secret" in word for command in host.commands for word in command)
    assert SystemdCreds(host).unseal("n", b"terces") == b"secret"


@pytest.mark.parametrize(
    "does",
    [
        lambda verb, data: Completed(1, "", "no"),
        lambda verb, data: Completed(None, "", ""),
        lambda verb, data: Completed(0, "", ""),
        lambda verb, data: Completed(0, "x", "") if verb == "encrypt" else Completed(1, "", "no TPM"),
        lambda verb, data: Completed(0, "something else", ""),
    ],
)
def test_a_seal_that_does_not_open_again_is_none(tmp_path: Path, does: Callable[[str, bytes], Completed]) -> None:
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert SystemdCreds(Answering(tmp_path, does)).seal("n", b"secret") is None
    store = opened(tmp_path, keys=KeyRing(KeyFiles(tmp_path / "keys", SystemdCreds(Answering(tmp_path, does)))))
    assert not store.keys()[0].sealed
    store.close()


def test_a_machine_that_did_not_seal_it(tmp_path: Path) -> None:
    sealer = SystemdCreds(Answering(tmp_path, lambda verb, data: Completed(1, "", "Failed to decrypt: wrong key")))
    with pytest.raises(SteadError, match="wrong key") as caught:
        sealer.unseal("n", b"x")
    assert caught.value.problem.code == "ledger.key-sealed" and "machine" in caught.value.problem.fix
    with pytest.raises(SteadError, match="can't be run"):
        SystemdCreds(FakeHost(tmp_path)).unseal("n", b"x")


@root
@pytest.mark.skipif(shutil.which("systemd-creds") is None, reason="needs systemd-creds")
async def test_with_the_real_systemd_creds_also_from_a_running_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sealer = SystemdCreds(LocalHost())
    monkeypatch.setattr(sealer, "_booted", lambda: True)
    store = opened(tmp_path, keys=KeyRing(KeyFiles(tmp_path / "keys", sealer)))
    if not store.keys()[0].sealed:
        store.close()
        pytest.skip("systemd-creds can't seal here")
    await store.rotate_key(ANN)
    await store.commit([note()])
    store.close()
    store = opened(tmp_path, keys=KeyRing(KeyFiles(tmp_path / "keys", SystemdCreds(LocalHost()))))
    check_log(store)
    assert len(store.vkeys()) == 2
    store.close()
