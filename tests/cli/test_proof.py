"""`stead proof` and `stead proof verify`: what is written, what is refused, and that a check needs files alone."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from stead.cli.leaf_words import leaf_words
from stead.cli.root import stead
from stead.model.ledger_messages import GetProof, ProofBundle
from stead.tlog.cosignature import cosign
from stead.tlog.keys import COSIGNATURE, new_signing_key
from stead.tlog.note import Note, format_note, parse_note
from stead.tlog.policy import WitnessLine, format_policy, parse_policy
from stead.tlog.proof import format_proof, parse_proof
from tests.cli import fake_ledger
from tests.cli.conftest import Call
from tests.cli.fake_agent import FINDING_ID, RUN_ID, FakeAgent
from tests.ledger.listed import key, leaf

DECISION = fake_ledger.ENTRY_ID % 4
LOG = fake_ledger.ledger(FINDING_ID, RUN_ID)
VKEY = key(2).verifier.text
NAMES = {f"{DECISION}.json", f"{DECISION}.tlog-proof", "policy.tlog-policy"}
WITNESS = new_signing_key("eye/witness", COSIGNATURE, b"w" * 32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "proofs"


@pytest.fixture
def written(agent: FakeAgent, call: Call, folder: Path) -> Iterator[Path]:
    """A folder with one proof, and no agent any more."""
    result = call("proof", RUN_ID, "--dir", str(folder))
    assert result.exit_code == 0, result.output
    agent.close()
    yield folder


def verify(folder: Path, *words: str) -> Result:
    """Check without a state, in this process."""
    return CliRunner().invoke(stead, ["proof", "verify", "--dir", str(folder), *words], prog_name="stead")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_three_files_are_written_and_told(agent: FakeAgent, call: Call, folder: Path) -> None:
    result = call("proof", RUN_ID, "--dir", str(folder))
    assert set(files(folder)) == NAMES and all(name in result.stdout for name in NAMES)
    assert files(folder)[f"{DECISION}.json"] == LOG.entries[3].leaf
    assert "decision made" in result.stdout and "entry 4 of 5 in host1/ledger" in result.stdout
    assert "+".join(VKEY.split("+")[:2]) in result.stdout and "stead proof verify" in result.stdout
    assert "sumdb" in result.stdout and "tlog-scales" in result.stdout and "@sigstore/verify" in result.stdout
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o644}
    again = call("proof", "write", RUN_ID, "--dir", str(folder), "-o", "json")
    assert again.exit_code == 0 and json.loads(again.stdout)["entry"] == 4


def test_options_may_stand_before_the_id(agent: FakeAgent, call: Call, folder: Path) -> None:
    result = call("proof", "-o", "json", "--dir", str(folder), RUN_ID)
    assert result.exit_code == 0 and json.loads(result.stdout)["id"] == DECISION
    checked = call("proof", "-o", "json", "verify", "--dir", str(folder))
    assert checked.exit_code == 0 and json.loads(checked.stdout)[0]["ok"]
    assert "ID | write ID" in call("proof", "--help").stdout


def test_a_call_of_nothing_gets_the_help_as_it_is(call: Call) -> None:
    result = call("proof")
    assert result.exit_code == 2 and not result.stdout
    assert result.stderr.startswith("Usage: stead proof") and "shows how" not in result.stderr


def test_an_older_proof_of_the_same_is_named_as_such(agent: FakeAgent, call: Call, folder: Path) -> None:
    assert call("proof", RUN_ID, "--dir", str(folder)).exit_code == 0
    (folder / f"{DECISION}.tlog-proof").write_text("older\n")
    refused = call("proof", RUN_ID, "--dir", str(folder))
    assert refused.exit_code == 2 and "older checkpoint" in refused.stderr and "--force" in refused.stderr


def test_the_working_directory_is_where_they_go(
    agent: FakeAgent, call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert call("proof", RUN_ID).exit_code == 0
    assert set(files(folder)) == NAMES
    assert call("proof", "verify").exit_code == 0


def test_files_that_differ_are_not_overwritten_unless_told(agent: FakeAgent, call: Call, folder: Path) -> None:
    folder.mkdir()
    (folder / "policy.tlog-policy").write_text("quorum none\n")
    refused = call("proof", RUN_ID, "--dir", str(folder))
    assert refused.exit_code == 2 and "trusts other keys" in refused.stderr and "--force" in refused.stderr
    assert set(files(folder)) == {"policy.tlog-policy"}
    assert call("proof", RUN_ID, "--dir", str(folder), "--force").exit_code == 0
    (folder / f"{DECISION}.json").write_text("{}")
    refused = call("proof", RUN_ID, "--dir", str(folder))
    assert refused.exit_code == 2 and f"{DECISION}.json is there already" in refused.stderr
    assert files(folder)[f"{DECISION}.json"] == b"{}"


def test_a_proof_that_does_not_hold_is_not_written(agent: FakeAgent, call: Call, folder: Path) -> None:
    made = fake_ledger.proof_of(LOG, LOG.entries[3])
    for wrong in (
        msgspec.structs.replace(made, leaf=LOG.entries[2].leaf),
        msgspec.structs.replace(made, proof=b"rubbish"),
        msgspec.structs.replace(made, policy=b"quorum none\n"),
    ):
        agent.answers[GetProof] = wrong
        result = call("proof", RUN_ID, "--dir", str(folder))
        assert result.exit_code == 1 and "does not hold" in result.stderr and not folder.exists()


@pytest.mark.parametrize("name", ["../../evil", "a/b", "", "x\n"])
def test_a_name_that_leads_elsewhere_is_refused(agent: FakeAgent, call: Call, folder: Path, name: str) -> None:
    agent.answers[GetProof] = msgspec.structs.replace(fake_ledger.proof_of(LOG, LOG.entries[3]), id=name)
    assert call("proof", RUN_ID, "--dir", str(folder)).exit_code == 1
    assert not folder.exists() and not list(folder.parent.iterdir())


def test_an_unknown_thing_is_said_to_be_one(agent: FakeAgent, call: Call, folder: Path) -> None:
    result = call("proof", "nothing", "--dir", str(folder))
    assert result.exit_code == 1 and "nothing is called nothing" in result.stderr


# checking


def test_a_proof_is_checked_from_files_alone(written: Path) -> None:
    result = verify(written)
    assert result.exit_code == 0, result.output
    assert f"OK    {DECISION}" in result.stdout and "all proven" in result.stdout
    assert "from elsewhere" in result.stdout and "--key VKEY" in result.stdout
    (one,) = json.loads(verify(written, "-o", "json").stdout)
    assert (one["ok"], one["id"], one["entry"], one["size"], one["pinned"]) == (True, DECISION, 4, 5, False)


def test_no_agent_no_state_and_no_socket_is_touched(written: Path) -> None:
    code = (
        "import sys, socket, sqlite3\n"
        "def no(*a, **k): raise AssertionError('offline')\n"
        "socket.socket.connect = no; sqlite3.connect = no\n"
        f"sys.argv = ['stead', 'proof', 'verify', '--dir', {str(written)!r}, '--state', '/nonexistent']\n"
        "from stead.cli import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "") and "all proven" in done.stdout


def test_a_pinned_key_needs_no_policy_and_no_warning(written: Path) -> None:
    pinned = verify(written, "--key", VKEY)
    assert pinned.exit_code == 0 and "(pinned)" in pinned.stdout and "from elsewhere" not in pinned.stdout
    other = verify(written, "--key", key(3).verifier.text)
    assert other.exit_code == 1 and "FAIL" in other.stdout and "no log that the policy trusts" in other.stdout
    (written / "policy.tlog-policy").unlink()
    assert verify(written, "--key", VKEY).exit_code == 0
    without = verify(written).stdout
    assert "policy.tlog-policy, is not there" in without and "--policy" in without and "byte for byte" in without
    wrong = verify(written, "--key", "nonsense")
    assert wrong.exit_code == 2 and "--key" in wrong.stderr


def test_another_policy_may_be_named(written: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.policy"
    mine.write_bytes((written / "policy.tlog-policy").read_bytes())
    named = verify(written, "--policy", str(mine))
    assert named.exit_code == 0 and "from elsewhere" not in named.stdout
    mine.write_text(f"log {key(3).verifier.text}\nquorum none\n")
    assert verify(written, "--policy", str(mine)).exit_code == 1


@pytest.mark.parametrize("suffix", [".json", ".tlog-proof", "policy"])
def test_any_changed_byte_of_any_file_is_noticed(written: Path, suffix: str) -> None:
    place = written / ("policy.tlog-policy" if suffix == "policy" else f"{DECISION}{suffix}")
    data = place.read_bytes()
    for at in range(0, len(data), 7):
        place.write_bytes(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :])
        result = verify(written)
        assert result.exit_code == 1 and "FAIL" in result.stdout and "1 not proven" in result.stdout, at
    place.write_bytes(data)
    assert verify(written).exit_code == 0


def test_a_missing_file_is_named(written: Path) -> None:
    (written / f"{DECISION}.json").unlink()
    result = verify(written)
    assert result.exit_code == 1 and f"{DECISION}.json, is not there" in result.stdout
    (written / f"{DECISION}.tlog-proof").unlink()
    result = verify(written)
    assert result.exit_code == 2 and "there is no proof in" in result.stderr


def test_a_proof_under_another_entrys_name_is_refused(written: Path) -> None:
    other = fake_ledger.ENTRY_ID % 9
    for suffix in (".json", ".tlog-proof"):
        (written / f"{DECISION}{suffix}").rename(written / f"{other}{suffix}")
    result = verify(written)
    assert result.exit_code == 1 and f"named after {other}" in result.stdout
    for suffix in (".json", ".tlog-proof"):
        (written / f"{other}{suffix}").rename(written / f"exhibit-a{suffix}")
    assert verify(written).exit_code == 0


def test_proofs_may_be_named_by_file_or_by_part_of_their_id(written: Path, tmp_path: Path) -> None:
    for word in (
        DECISION,
        DECISION[:20],
        DECISION[-4:],
        str(written / f"{DECISION}.json"),
        str(written / f"{DECISION}.tlog-proof"),
    ):
        assert verify(written, word).exit_code == 0, word
    assert verify(written, RUN_ID).exit_code == verify(written, RUN_ID[:13]).exit_code == 0, "what the proof was asked for by"
    for word in ("ffff", "", "agent.s", "\udcff" * 8):
        refused = verify(written, word)
        assert refused.exit_code == 2 and "name its file" in refused.stderr, word
    assert verify(written, str(tmp_path / "none.tlog-proof")).exit_code == 1


def test_one_bad_proof_among_good_ones_fails_the_call(written: Path) -> None:
    (written / "bad.json").write_bytes(leaf(1))
    (written / "bad.tlog-proof").write_bytes((written / f"{DECISION}.tlog-proof").read_bytes())
    result = verify(written)
    assert result.exit_code == 1 and "2 proofs: 1 not proven" in result.stdout
    assert [one["ok"] for one in json.loads(verify(written, "-o", "json").stdout)] == [True, False]


def test_witnesses_are_named_and_their_quorum_is_demanded(written: Path) -> None:
    place, policy = written / f"{DECISION}.tlog-proof", written / "policy.tlog-policy"
    trusted = parse_policy(policy.read_bytes())._replace(witnesses=(WitnessLine("eye", WITNESS.verifier),), quorum="eye")
    policy.write_bytes(format_policy(trusted))
    refused = verify(written)
    assert refused.exit_code == 1 and "quorum" in refused.stdout
    proof = parse_proof(place.read_bytes())
    note = parse_note(proof.checkpoint)
    signed = format_note(Note(note.text, (*note.signatures, cosign(note.text, WITNESS, 1_700_000_000))))
    place.write_bytes(format_proof(msgspec.structs.replace(proof, checkpoint=signed)))
    result = verify(written)
    assert result.exit_code == 0 and "cosigned by eye at 2023-11-14 22:13:20 UTC" in result.stdout


def test_what_a_strange_witness_claims_is_told_and_no_crash(written: Path) -> None:
    """Its time may be any number, and its name in the policy any octets."""
    place, policy = written / f"{DECISION}.tlog-proof", written / "policy.tlog-policy"
    trusted = parse_policy(policy.read_bytes())._replace(witnesses=(WitnessLine("e\udcff", WITNESS.verifier),), quorum="e\udcff")
    policy.write_bytes(format_policy(trusted))
    proof = parse_proof(place.read_bytes())
    note = parse_note(proof.checkpoint)
    signed = format_note(Note(note.text, (*note.signatures, cosign(note.text, WITNESS, 2**63 - 1))))
    place.write_bytes(format_proof(msgspec.structs.replace(proof, checkpoint=signed)))
    result = verify(written)
    assert result.exit_code == 0 and f"{2**63 - 1} s after 1970" in result.stdout
    (checked,) = json.loads(verify(written, "-o", "json").stdout)
    assert checked["ok"] and checked["witnesses"] == [["e?", 2**63 - 1]]


def test_a_proof_that_is_a_pipe_is_refused_and_not_waited_for(written: Path) -> None:
    place = written / f"{DECISION}.tlog-proof"
    place.unlink()
    os.mkfifo(place)
    result = verify(written)
    assert result.exit_code == 1 and "no plain file" in result.stdout


def test_what_no_witness_has_cosigned_yet_is_written_and_said(agent: FakeAgent, call: Call, folder: Path) -> None:
    made = fake_ledger.proof_of(LOG, LOG.entries[3])
    policy = parse_policy(made.policy)._replace(witnesses=(WitnessLine("eye", WITNESS.verifier),), quorum="eye")
    agent.answers[GetProof] = ProofBundle(made.id, 3, made.leaf, made.proof, format_policy(policy), "no witness has cosigned it")
    result = call("proof", RUN_ID, "--dir", str(folder))
    said = " ".join(result.stdout.split())
    assert result.exit_code == 0 and "no witness has cosigned it" in said and "with --force" in said
    assert verify(folder).exit_code == 1


# words


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"rubbish", "7 bytes that are no entry"),
        (b"{}", "no entry"),
        (leaf(1), "host1: test noted: about subject 1, n 1 (by stead)"),
        (leaf(1, type="verdict.made", body={"result": "helped", "reason": "it fell"}), "it helped: it fell"),
        (leaf(1, type="verdict.made", body={}), "verdict made"),
        (leaf(1, type="receipt.issued", body={"steps": 5}), "receipt issued"),
        (leaf(1, actor={"id": "uid:1000", "kind": "user"}), "(by user uid:1000)"),
        (leaf(1, actor={"id": "policy", "kind": "policy"}), "(by the policy)"),
        (leaf(1, actor={}), "(by nobody named)"),
        (leaf(1, type="run.expired", body={"about": RUN_ID}), f"changed: too late (by stead, about {RUN_ID[:13]})"),
        (leaf(1, type="finding.cleared", body={"metric": "a.b"}), "finding cleared: a.b (by"),
        (leaf(1, body={"x": "y" * 5000}), "…"),
    ],
)
def test_a_leaf_is_told_from_its_own_bytes(data: bytes, words: str) -> None:
    said = leaf_words(data)
    assert words in said and len(said) < 800


def test_a_receipt_is_told_whole() -> None:
    body = {
        "about": RUN_ID,
        "approvals": [{"by": {"id": "uid:1000", "kind": "user"}}],
        "entries": [{}, {}],
        "finding": {"metric": "infra.process_cpu_cores", "subject": "process:7@99", "value": "0.98"},
        "playbook": "calm-cpu-hog",
        "risk": "low",
        "state": "held",
        "steps": [
            {
                "actuator": "priority",
                "before": {"nice": 0},
                "receipts": [{"operations": ["setpriority(process 7, 19)"]}],
                "target": {"kind": "process", "name": "7"},
                "want": {"nice": 19},
            }
        ],
        "tier": 1,
        "verdict": {"reason": "run delay fell", "result": "helped"},
    }
    said = leaf_words(leaf(1, type="receipt.issued", body=body))
    for words in (
        "calm-cpu-hog (low risk, tier 1) priority of process:7: nice 0 → 19",
        "infra.process_cpu_cores of process:7 was 0.98",
        "approved by uid:1000",
        "setpriority(process 7, 19)",
        "verdict: helped, run delay fell",
        "binds 2 other entries",
    ):
        assert words in said
