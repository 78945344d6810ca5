"""An exported ledger in the hands of a tlog-tiles reader that is not ours, and the page for strangers taken at its word."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tlog_scales.backend import LocalBackend
from tlog_scales.reader import TilesReader
from tlog_scales.tiles import leaf_hash

from stead.tlog.proof import parse_proof
from tests.independent.made import Log
from tests.style.repository import ROOT

ENTRIES = 600
PAGE = (ROOT / "docs/ledger.md").read_text(encoding="utf-8")
SCALES = (sys.executable, "-m", "tlog_scales.cli")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Log]:
    made = Log(tmp_path_factory.mktemp("log"), ENTRIES)
    yield made
    made.close()


@pytest.fixture(scope="module")
def folder(log: Log, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("export")
    log.export(place)
    return place


def test_a_tlog_tiles_reader_finds_every_entry_and_makes_our_proofs(log: Log, folder: Path) -> None:
    reader = TilesReader(LocalBackend(folder))
    checkpoint = reader.get_checkpoint()
    assert checkpoint.size == ENTRIES and reader.calculate_root_hash() == checkpoint.root_hash
    for entry in log.store.leaves(0, ENTRIES):
        index = entry.seq - 1
        proof = reader.get_inclusion_proof(index, ENTRIES)
        assert reader.get_entry(index) == entry.leaf and proof.node_hashes == log.store.proof(index)
        proof.check(leaf_hash(entry.leaf), checkpoint.root_hash)
    for old in range(1, ENTRIES, 7):
        assert reader.get_consistency_proof(old, ENTRIES).node_hashes == log.store.consistency(old)


def test_the_commands_of_the_page_for_an_export(log: Log, folder: Path) -> None:
    named = re.findall(r"^tlog-tiles (\S+)( --check)? /srv/log 41 ", PAGE, re.MULTILINE)
    assert named == [("get-leaf", " --check"), ("gen-proof", "")]
    got, made = (
        subprocess.run([*SCALES, verb, *check.split(), str(folder), "41"], capture_output=True, check=True, timeout=60).stdout
        for verb, check in named
    )
    assert got == log.store.leaves(41, 42)[0].leaf
    proof = parse_proof(made)
    assert proof.index == 41 and list(proof.hashes) == log.store.proof(41) and proof.checkpoint == log.store.checkpoint


@pytest.fixture
def files(log: Log, tmp_path: Path) -> Path:
    made = log.proofs(1)[0]
    for name, data in zip(("ID.json", "ID.tlog-proof", "policy.tlog-policy"), made[:3], strict=True):
        (tmp_path / name).write_bytes(data)
    return tmp_path


def recipe(word: str) -> str:
    (found,) = [block for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if word in block]
    return found


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl command")
def test_the_pages_recipe_without_any_program_of_a_log(files: Path) -> None:
    shell = ["sh", "-eu", "-c", recipe("openssl pkeyutl")]
    good = subprocess.run(shell, cwd=files, capture_output=True, text=True, timeout=60)
    assert good.returncode == 0 and "Verified Successfully" in good.stdout, good.stderr
    proof = files / "ID.tlog-proof"
    proof.write_text(proof.read_text().replace("host1/ledger\n", "host1/ledger\n1", 1))
    assert subprocess.run(shell, cwd=files, capture_output=True, timeout=60).returncode != 0


def test_the_pages_recipe_for_the_path_from_entry_to_root(log: Log, files: Path) -> None:
    shell = ["sh", "-eu", "-c", recipe("sha256sum")]
    for proof in log.proofs(12):
        (files / "text").write_bytes(proof.proof.partition(b"\n\n")[2])
        for name, data in zip(("ID.json", "ID.tlog-proof"), proof[:2], strict=True):
            (files / name).write_bytes(data)
        told = subprocess.run(shell, cwd=files, capture_output=True, text=True, timeout=60)
        assert (told.returncode, told.stdout) == (0, "Entry proven\n"), told.stderr
    for name, octets, wrong in (
        ("ID.json", b"1", b"2"),
        ("ID.tlog-proof", b"index ", b"index 1"),
        ("ID.tlog-proof", b"\n\n", b"\nAA==\n\n"),
    ):
        good = (files / name).read_bytes()
        assert octets in good
        (files / name).write_bytes(good.replace(octets, wrong, 1))
        told = subprocess.run(shell, cwd=files, capture_output=True, text=True, timeout=60)
        assert told.returncode != 0 and not told.stdout, name
        (files / name).write_bytes(good)
