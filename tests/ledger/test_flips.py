"""One bit is enough: every change of an exported ledger, and of a proof, is noticed and named.

Places are spread evenly over all bits of all files: as many equal stretches as there are flips, one place by chance in each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from stead.ledger.exported import verify_export
from stead.model.errors import SteadError
from stead.tlog.policy import parse_policy
from stead.tlog.proof import parse_proof, prove
from stead.tlog.strict import Malformed
from stead.tlog.tiles import unbundle
from tests.independent.made import Log
from tests.independent.mutations import Proof

ENTRIES = 300
POLICY = "policy.tlog-policy"
FLIPS = 25_000
FLIPS_FAST = 1_000


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


def files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def places(paths: list[Path], count: int) -> Iterator[tuple[Path, int]]:
    """`count` bits, as (file, number of the bit in it), evenly over all files."""
    random = Random(count)
    sizes = [8 * path.stat().st_size for path in paths]
    total = sum(sizes)
    at, start = 0, 0
    for number in range(count):
        place = random.randrange(number * total // count, (number + 1) * total // count)
        while place >= start + sizes[at]:
            start, at = start + sizes[at], at + 1
        yield paths[at], place - start


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def told(folder: Path, path: Path, bit: int) -> str:
    """The name of what verification says with that bit flipped (of every other bit: deeply); empty if all is well."""
    good = path.read_bytes()
    path.write_bytes(flipped(good, bit))
    try:
        verify_export(folder, deep=bit % 2 == 0)
    except SteadError as error:
        return error.problem.code
    finally:
        path.write_bytes(good)
    return ""


def test_an_export_without_a_flip_is_sound(log: Log, folder: Path) -> None:
    found = verify_export(folder, deep=True)
    assert found.size == ENTRIES == log.store.size and found.tiles >= 2 and found.blobs > 0
    names = {path.relative_to(folder).parts[0] for path in files(folder)}
    assert names == {"checkpoint", "checkpoint.cosigned", POLICY, "tile", "blobs"}


@pytest.mark.parametrize("count", [FLIPS_FAST, pytest.param(FLIPS, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
def test_every_flip_of_an_export_is_detected(folder: Path, count: int) -> None:
    """The long run is the figure that the issue asks for; the short one finds a file that nobody looks at."""
    paths = [path for path in files(folder) if path.name != POLICY]
    names = Counter(told(folder, path, bit) for path, bit in places(paths, count))
    assert sum(names.values()) == count and not names[""]
    assert set(names) <= {"ledger.altered", "ledger.unsigned", "ledger.truncated"}
    verify_export(folder, deep=True)


@pytest.mark.parametrize("name", ["checkpoint", "checkpoint.cosigned", POLICY])
def test_every_bit_of_what_is_signed_and_trusted_is_looked_at(folder: Path, name: str) -> None:
    path = folder / name
    bits = range(8 * path.stat().st_size)
    assert len(bits) > 500
    assert not [bit for bit in bits if not told(folder, path, bit)]


def test_a_leaf_that_is_no_longer_utf8_is_refused_by_name(folder: Path) -> None:
    path = folder / "tile/entries/000"
    at = path.read_bytes().index("α".encode())
    assert {told(folder, path, bit) for bit in range(8 * at, 8 * at + 16)} == {"ledger.altered"}


@pytest.fixture(scope="module")
def rotated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with closing(Log(tmp_path_factory.mktemp("rotated"), 20, witnessed=False)) as made:
        made.rotate()
        made.export(place := tmp_path_factory.mktemp("export"))
    return place


def test_every_bit_of_a_change_of_the_key_is_looked_at(rotated: Path) -> None:
    assert verify_export(rotated).rotations == 1
    path = rotated / "tile/entries/000.p/21"
    leaf = unbundle(path.read_bytes())[-1]
    last = 8 * path.stat().st_size
    assert b"key.rotated" in leaf
    assert not [bit for bit in range(last - 8 * len(leaf), last) if told(rotated, path, bit) != "ledger.altered"]


def test_of_two_signatures_one_is_enough(rotated: Path) -> None:
    """A flipped name or key id makes a signature another's, which C2SP ignores: then the log's other key alone signed."""
    path = rotated / "checkpoint"
    good = path.read_bytes()
    assert len(verify_export(rotated).signed_by) == 2
    missed = [bit for bit in range(8 * len(good)) if not told(rotated, path, bit)]
    for bit in missed:
        path.write_bytes(flipped(good, bit))
        assert len(verify_export(rotated).signed_by) == 1
    path.write_bytes(good)
    ids = 2 * 8 * (len("host1/ledger ") + 6)  # a name, a space, and the six letters of base64 that hold the id
    assert 0 < len(missed) <= ids


@pytest.fixture(scope="module")
def proof(log: Log) -> Proof:
    return log.proofs(1)[0]


@pytest.mark.parametrize("part", ["leaf", "proof", "policy"])
def test_every_flip_of_a_proof_is_refused(proof: Proof, part: str) -> None:
    """Every bit of the three files: what cannot be read is Malformed, what can and is not so is Unproven, a kind of it."""
    assert prove(proof.leaf, parse_proof(proof.proof), parse_policy(proof.policy)).witnesses
    good = getattr(proof, part)
    accepted = []
    for bit in range(8 * len(good)):
        files = proof._replace(**{part: flipped(good, bit)})
        try:
            prove(files.leaf, parse_proof(files.proof), parse_policy(files.policy))
        except Malformed:
            continue
        accepted.append(bit)
    assert not accepted
