"""A log as plain files: the layout of tlog-tiles, what a second export adds, and what it refuses to be mixed with."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from stead.ledger import durable
from stead.ledger.bundle import policy_of
from stead.ledger.export import export
from stead.ledger.exported import ExportSource, verify_export
from stead.model.errors import SteadError
from stead.tlog.merkle import leaf_hash
from stead.tlog.tiles import unbundle
from tests.ledger.listed import Listed, blob_ref, entry, key, log
from tests.ledger.test_verify import WITNESSES, witnessed

SALT = b"s" * 16


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def code(call: Callable[[], object]) -> str:
    with pytest.raises(SteadError) as raised:
        call()
    assert raised.value.problem.fix
    return raised.value.problem.code


def test_the_layout_is_that_of_tlog_tiles(tmp_path: Path) -> None:
    source = log(600)
    done = export(source, tmp_path / "a" / "b")
    folder = tmp_path / "a" / "b"
    expected = {"checkpoint", "policy.tlog-policy", "tile/1/000.p/2"}
    expected |= {f"tile/{level}/{name}" for level in ("0", "entries") for name in ("000", "001", "002.p/88")}
    assert names(folder) == expected and done.files == len(expected)
    assert (done.size, done.added, done.blobs) == (600, 600, 0)
    assert (folder / "checkpoint").read_bytes() == source.note
    leaves = [one.leaf for one in source.entries]
    assert unbundle((folder / "tile/entries/001").read_bytes()) == leaves[256:512]
    assert (folder / "tile/0/002.p/88").read_bytes() == b"".join(map(leaf_hash, leaves[512:]))
    assert {stat.S_IMODE((folder / name).stat().st_mode) for name in names(folder)} == {0o644}


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 512])
def test_an_export_of_any_size_verifies(tmp_path: Path, size: int) -> None:
    export(log(size), tmp_path)
    found = verify_export(tmp_path, deep=True, pins=[key(1).verifier])
    assert found.size == size and found.pinned


def test_a_second_export_adds_what_is_new_and_drops_what_it_replaces(tmp_path: Path) -> None:
    whole = log(1100)
    for size in (0, 3, 250, 255, 256, 300, 300, 512, 1100):
        part = Listed(whole.entries[:size])
        before = names(tmp_path)
        done = export(part, tmp_path)
        assert done.added == size - (0 if not before else int((tmp_path / "size").read_text()))
        verify_export_of(tmp_path, part)
    fresh = tmp_path / "fresh"
    export(whole, fresh)
    kept = {name for name in names(tmp_path) if not name.startswith("fresh") and name != "size"}
    assert names(fresh) <= kept and all((fresh / name).read_bytes() == (tmp_path / name).read_bytes() for name in names(fresh))
    assert not any(name.startswith(("tile/0/000.p", "tile/entries/000.p")) for name in kept)


def verify_export_of(folder: Path, part: Listed) -> None:
    """It verifies at every size, with whatever incomplete tiles the exports before have left."""
    (folder / "size").unlink(missing_ok=True)
    assert verify_export(folder, deep=True).size == len(part.entries)
    (folder / "size").write_text(str(len(part.entries)))


def test_only_what_is_new_is_read_again(tmp_path: Path) -> None:
    whole = log(900)
    export(Listed(whole.entries[:700]), tmp_path)
    asked: list[int] = []
    leaves = whole.leaves
    whole.leaves = lambda start, end: asked.append(start) or leaves(start, end)  # type: ignore[method-assign, func-returns-value]
    export(whole, tmp_path)
    assert min(asked) == 512


def test_blobs_come_only_when_asked_for_and_for_the_owner_alone(tmp_path: Path) -> None:
    blobs = {seq: (SALT, b"detail %d" % seq) for seq in range(1, 40, 3)}
    entries = [entry(seq, blob=blob_ref(*blobs[seq])) if seq in blobs else entry(seq) for seq in range(1, 41)]
    source = Listed(entries, blobs=blobs)
    export(source, tmp_path)
    assert not (tmp_path / "blobs").exists()
    assert verify_export(tmp_path, deep=True).erased == 13
    assert export(source, tmp_path, blobs=True).blobs == 13
    found = verify_export(tmp_path, deep=True)
    assert (found.blobs, found.erased) == (13, 0)
    for path in (tmp_path / "blobs").iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_witnesses_cosigned_goes_along(tmp_path: Path) -> None:
    source = witnessed(300, 200)
    export(source, tmp_path)
    assert (tmp_path / "checkpoint.cosigned").read_bytes() == source.cosigned
    found = verify_export(tmp_path, policy=policy_of([key(1).verifier], WITNESSES))
    assert [(one.place, one.size) for one in found.beside] == [("what eye cosigned", 200)]
    (tmp_path / "checkpoint.cosigned").unlink()
    assert verify_export(tmp_path).beside == ()
    assert code(lambda: verify_export(tmp_path, policy=policy_of([key(1).verifier], WITNESSES))) == "ledger.unsigned"


def test_another_logs_folder_is_left_alone(tmp_path: Path) -> None:
    export(log(5, keys=(key(1, "host2/ledger"),)), tmp_path)
    before = (tmp_path / "checkpoint").read_bytes()
    assert code(lambda: export(log(9), tmp_path)) == "ledger.other-log"
    assert (tmp_path / "checkpoint").read_bytes() == before


@pytest.mark.parametrize(("size", "refusal"), [(250, "ledger.rolled-back"), (300, "ledger.forked"), (301, "ledger.rewritten")])
def test_an_export_that_the_log_does_not_continue_is_kept(tmp_path: Path, size: int, refusal: str) -> None:
    export(log(300), tmp_path)
    before = (tmp_path / "checkpoint").read_bytes()
    other = Listed([entry(seq, host="other") if seq == 290 else entry(seq) for seq in range(1, size + 1)])
    assert code(lambda: export(other, tmp_path)) == refusal
    assert (tmp_path / "checkpoint").read_bytes() == before
    assert verify_export(tmp_path).size == 300


def test_a_log_that_is_not_what_it_signed_is_not_exported(tmp_path: Path) -> None:
    wrong, short, unsigned = log(300), log(300), log(300, signers=(key(2),))
    wrong.entries[7] = entry(8, host="other")
    del short.entries[299]
    assert code(lambda: export(wrong, tmp_path)) == "ledger.altered"
    assert code(lambda: export(short, tmp_path)) == "ledger.truncated"
    assert code(lambda: export(unsigned, tmp_path)) == "ledger.unsigned"
    assert not (tmp_path / "checkpoint").exists()
    export(log(300), tmp_path)
    assert verify_export(tmp_path).size == 300


def test_an_interrupted_export_stays_what_it_was_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(log(300), tmp_path)
    put, left = durable.put, [4]

    def failing(path: Path, data: bytes, mode: int = 0o644) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device", str(path))
        put(path, data, mode)

    monkeypatch.setattr(durable, "put", failing)
    assert code(lambda: export(log(900), tmp_path)) == "export.unwritable"
    monkeypatch.undo()
    assert b"\n300\n" in (tmp_path / "checkpoint").read_bytes()
    export(log(900), tmp_path)
    assert verify_export(tmp_path, deep=True).size == 900


def test_all_is_on_disk_before_the_checkpoint_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    put, settle = durable.put, durable.settle
    monkeypatch.setattr(durable, "put", lambda path, data, mode=0o644: (done.append(path.name), put(path, data, mode)))
    monkeypatch.setattr(durable, "settle", lambda paths: (done.append("settled"), settle(paths)))
    export(log(300), tmp_path)
    assert done[-5:] == ["settled", "policy.tlog-policy", "settled", "checkpoint", "settled"]


@pytest.mark.parametrize(
    "name", ["tile/0/000", "tile/entries/000", "tile/0/001.p/44", "tile/1/000.p/1", "checkpoint", "policy.tlog-policy"]
)
def test_a_missing_or_short_file_is_noticed(tmp_path: Path, name: str) -> None:
    export(log(300), tmp_path)
    place = tmp_path / name
    data = place.read_bytes()
    place.write_bytes(data[:-1])
    assert code(lambda: verify_export(tmp_path)).startswith("ledger.")
    place.unlink()
    assert code(lambda: verify_export(tmp_path)) in (
        "export.missing" if name == "checkpoint" else "ledger.truncated",
        "ledger.altered",
        "ledger.unsigned",
    )


@pytest.mark.parametrize(
    "name",
    [
        "tile/0/001",
        "tile/0/007",
        "tile/9/000",
        "tile/0/001.p/45",
        "tile/0/001.p/043",
        "tile/entries/001.p/9",
        "tile/x",
        "notes.txt",
    ],
)
def test_a_file_that_does_not_belong_is_named(tmp_path: Path, name: str) -> None:
    export(log(300), tmp_path)
    place = tmp_path / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"x" * 32)
    with pytest.raises(SteadError, match=f"{name}.*"):
        verify_export(tmp_path)


@pytest.mark.parametrize("name", ["etc", "tile/0/etc", "blobs"])
def test_a_link_to_a_folder_is_no_part_of_it(tmp_path: Path, name: str) -> None:
    export(log(300), tmp_path / "log")
    (tmp_path / "other").mkdir()
    (tmp_path / "log" / name).symlink_to(tmp_path / "other")
    with pytest.raises(SteadError, match=f"{name}.*"):
        verify_export(tmp_path / "log")


@pytest.mark.parametrize("name", ["checkpoint", "policy.tlog-policy", "tile/0/000", "tile/entries/000", "blobs/" + "0" * 64])
def test_a_file_that_would_fill_the_memory_is_not_read(tmp_path: Path, name: str) -> None:
    export(log(300), tmp_path)
    (tmp_path / "blobs").mkdir()
    with (tmp_path / name).open("wb") as file:
        file.truncate(1 << 40)
    assert code(lambda: verify_export(tmp_path)) == "export.unreadable"


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "0001-01-01", "", "yesterday"])
def test_a_time_that_is_none_is_refused_and_not_a_crash(tmp_path: Path, at: str) -> None:
    export(Listed([entry(1, ts=at)]), tmp_path)
    assert code(lambda: verify_export(tmp_path, deep=True)) == "ledger.altered"


def test_a_blob_that_is_not_what_its_name_says(tmp_path: Path) -> None:
    source = Listed([entry(1, blob=blob_ref(SALT, b"x"))], blobs={1: (SALT, b"x")})
    export(source, tmp_path, blobs=True)
    (blob,) = (tmp_path / "blobs").iterdir()
    blob.write_bytes(SALT + b"y")
    assert code(lambda: verify_export(tmp_path)) == "ledger.altered"
    assert code(lambda: verify_export(tmp_path, deep=True)) == "ledger.altered"


def test_a_folder_without_an_export_is_no_ledger(tmp_path: Path) -> None:
    assert code(lambda: ExportSource(tmp_path)) == "export.missing"
    assert code(lambda: ExportSource(tmp_path / "none")) == "export.missing"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert code(lambda: export(log(3), tmp_path / "x")) == "export.unwritable"


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    assert code(lambda: export(log(3), tmp_path / "x")) == "export.unwritable"
