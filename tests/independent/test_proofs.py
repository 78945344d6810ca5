"""stead's proofs before verifiers that it did not write: the Go team's, tlog-scales, and sigstore's.

What stead makes and what stead checks could be wrong in the same way. These programs share nothing with it but the formats, so
a proof that they accept, and forgeries that they refuse, are worth something. At least two of them must be here in CI.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from tests.independent import programs
from tests.independent.made import Log
from tests.independent.mutations import OF_THE_PATH, OF_WITNESSES, Mutation, Proof, forged, one_bit
from tests.independent.programs import AbsentError, Case, Program

ENTRIES = 1500
PROOFS = 1000
FEWEST_IN_CI = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("independent")


def every(folder: Path) -> dict[str, Callable[[], Program]]:
    return {"tlog-scales": programs.tlog_scales, "sigstore": programs.sigstore, "go": lambda: programs.go_sumdb(folder)}


def here(name: str, folder: Path) -> Program:
    try:
        return every(folder)[name]()
    except AbsentError as why:
        pytest.skip(str(why))


@pytest.fixture(scope="module", params=["tlog-scales", "sigstore", "go"])
def program(request: pytest.FixtureRequest, folder: Path) -> Program:
    return here(request.param, folder)


@pytest.fixture(scope="module", params=["tlog-scales", "go"])  # sigstore checks no consistency proofs
def growth_program(request: pytest.FixtureRequest, folder: Path) -> Program:
    return here(request.param, folder)


@pytest.fixture(scope="module")
def witnessed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Log]:
    log = Log(tmp_path_factory.mktemp("witnessed"), ENTRIES)
    yield log
    log.close()


@pytest.fixture(scope="module")
def proofs(witnessed: Log) -> list[Proof]:
    return witnessed.proofs(PROOFS)


def test_enough_of_them_are_here(folder: Path) -> None:
    missing = []
    for find in every(folder).values():
        try:
            find()
        except AbsentError as why:
            missing.append(str(why))
    assert len(missing) <= len(every(folder)) - (FEWEST_IN_CI if os.environ.get("CI") else 1), missing


def test_they_accept_every_proof(program: Program, proofs: list[Proof]) -> None:
    told = program.answers([proof.case for proof in proofs])
    assert told == ["ok"] * PROOFS


def test_they_refuse_every_forgery(program: Program, proofs: list[Proof]) -> None:
    kinds: tuple[Mutation, ...] = OF_THE_PATH + (OF_WITNESSES if program.witnesses else ())
    forgeries = forged(proofs, kinds, seed=4)
    told = program.answers([proof.case for proof in forgeries])
    accepted = [forgeries[at] for at, answer in enumerate(told) if answer == "ok"]
    assert not accepted and len(told) == PROOFS


def test_without_witnesses_the_logs_signature_is_enough(program: Program, tmp_path: Path) -> None:
    with closing(Log(tmp_path, 300, witnessed=False)) as log:
        assert program.answers([proof.case for proof in log.proofs(20)]) == ["ok"] * 20


def test_they_accept_that_a_log_only_grew(growth_program: Program, witnessed: Log) -> None:
    assert growth_program.answers(witnessed.growth(PROOFS)) == ["ok"] * PROOFS


def test_they_refuse_another_history(growth_program: Program, witnessed: Log) -> None:
    random = Random(6)
    told = growth_program.answers([another_history(case, random) for case in witnessed.growth(PROOFS)])
    assert "ok" not in told and len(told) == PROOFS


def another_history(case: Case, random: Random) -> Case:
    """One hash of the proof changed, left out or added."""
    hashes = list(case["hashes"])
    at = random.randrange(len(hashes)) if hashes else 0
    match random.randrange(3) if hashes else 2:
        case 0:
            hashes[at] = one_bit(hashes[at], random)  # type: ignore[arg-type]
        case 1:
            del hashes[at]
        case _:
            hashes.insert(at, random.randbytes(32))
    return {**case, "hashes": hashes}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """What the command writes, of a ledger that no agent holds."""
    state, there = tmp_path_factory.mktemp("state"), tmp_path_factory.mktemp("files")
    Log(state, 100, witnessed=False).close()
    argv = [sys.executable, "-m", "stead", "proof", "e-41", "--state", str(state), "--dir", str(there)]
    subprocess.run(argv, check=True, capture_output=True, timeout=60)
    return [there / name for name in ("e-41.json", "e-41.tlog-proof", "policy.tlog-policy")]


def test_a_person_runs_them_on_what_stead_proof_wrote(program: Program, files: list[Path], tmp_path: Path) -> None:
    done = program.run(*files)
    assert done.returncode == 0 and re.fullmatch(r"proven: entry 41 of 100 in \S+/ledger \(index 40\)\n", done.stdout), done
    changed = tmp_path / "changed.json"
    changed.write_bytes(files[0].read_bytes() + b" ")
    refused = program.run(changed, *files[1:])
    assert refused.returncode == 1 and not refused.stdout
    assert refused.stderr.startswith("not proven: ") and refused.stderr.count("\n") == 1


def test_a_call_that_lacks_a_file_is_no_proof(program: Program, files: list[Path], tmp_path: Path) -> None:
    for wrong in (files[:1], files[:2], [*files, files[0]], [files[0], tmp_path / "none", files[2]]):
        done = program.run(*wrong)
        assert done.returncode == 2 and not done.stdout and done.stderr.count("\n") == 1, done


def test_what_sigstore_does_not_look_at_is_said(witnessed: Log, proofs: list[Proof], folder: Path, tmp_path: Path) -> None:
    program, paths = here("sigstore", folder), [tmp_path / name for name in ("leaf", "proof", "policy")]
    for path, data in zip(paths, proofs[0][:3], strict=True):
        path.write_bytes(data)
    assert "witnesses cosigned was not looked at" in program.run(*paths).stdout
