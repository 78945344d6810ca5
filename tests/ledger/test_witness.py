from __future__ import annotations

import pytest

from stead.ledger import witness
from stead.ledger.witness import Reply
from stead.tlog.cosignature import cosign
from stead.tlog.keys import COSIGNATURE, new_signing_key
from stead.tlog.note import parse_note
from stead.tlog.policy import WitnessLine, parse_policy
from stead.tlog.witness import SIZE_TYPE, TEXT_TYPE
from tests.ledger.witnessing import LOG, WITNESS, Log

OTHER = new_signing_key("ear/witness", COSIGNATURE, b"e" * 32)
LINE = WitnessLine("eye", WITNESS.verifier, "https://eye.example/witness/")
TEXT = Log().grow(5).text
GOOD = cosign(TEXT, WITNESS, 7).line.encode()
EYE, EAR = f"witness eye {WITNESS.verifier.text} http://eye/w\n", f"witness ear {OTHER.verifier.text}\n"
BOTH = parse_policy(f"{EYE}{EAR}group two all eye ear\nquorum two\n".encode())
ONE = parse_policy(f"{EYE}quorum eye\n".encode())


@pytest.mark.parametrize(
    ("reply", "old", "verdict", "size"),
    [
        (Reply(200, TEXT_TYPE, GOOD), 3, "cosigned", 5),
        (Reply(200, TEXT_TYPE, cosign(TEXT, OTHER, 7).line.encode() + GOOD), 3, "cosigned", 5),
        (Reply(200, TEXT_TYPE, cosign(TEXT, OTHER, 7).line.encode()), 3, "refused", None),
        (Reply(200, TEXT_TYPE, cosign(Log().grow(4).text, WITNESS, 7).line.encode()), 3, "refused", None),
        (Reply(200, TEXT_TYPE, b"<html>"), 3, "refused", None),
        (Reply(409, SIZE_TYPE, b"4\n"), 3, "stale", 4),
        (Reply(409, f"{SIZE_TYPE}; charset=utf-8", b"4\n"), 3, "stale", 4),
        (Reply(409, SIZE_TYPE, b"5\n"), 3, "stale", 5),
        (Reply(409, SIZE_TYPE, b"5\n"), 5, "forked", 5),
        (Reply(409, TEXT_TYPE, b"two roots\n"), 5, "forked", 5),
        (Reply(409, TEXT_TYPE, b"busy\n"), 3, "unknown", None),
        (Reply(409, SIZE_TYPE, b"6\n"), 3, "ahead", 6),
        (Reply(409, SIZE_TYPE, b"-6\n"), 3, "unknown", None),
        (Reply(409, SIZE_TYPE, b""), 3, "unknown", None),
        (Reply(422, TEXT_TYPE, b"no\n"), 3, "rewritten", 3),
        (Reply(422, TEXT_TYPE, b"no\n"), 0, "unknown", None),
        (Reply(404), 3, "refused", None),
        (Reply(403), 3, "refused", None),
        (Reply(400, TEXT_TYPE, b"bad\n"), 3, "unknown", None),
        (Reply(503), 3, "unknown", None),
        (Reply(0, error="no answer within 3 s"), 3, "unknown", None),
    ],
)
def test_what_each_answer_means(reply: Reply, old: int, verdict: str, size: int | None) -> None:
    heard = witness.hear(LINE, TEXT, 5, old, reply)
    assert (heard.verdict, heard.size) == (verdict, size)
    assert (verdict == "cosigned") == bool(heard.signatures)
    assert heard.detail or verdict in ("cosigned", "stale", "ahead", "forked")
    if heard.signatures:
        assert [line.name for line in heard.signatures] == ["eye/witness"], "only the key that the policy names"


def test_a_witness_s_own_words_are_cut_and_can_not_move_a_cursor() -> None:
    evil = "BadStatusLine: \x1b[2J\x9b31m\u202e\n" + "x" * 70_000
    for reply in (Reply(0, error=evil), Reply(500, TEXT_TYPE, evil.encode()), Reply(409, SIZE_TYPE, evil.encode())):
        detail = witness.hear(LINE, TEXT, 5, 3, reply).detail
        assert detail and detail.isprintable() and len(detail) < 400


@pytest.mark.parametrize(
    ("verdict", "own_prefix", "code"),
    [
        ("ahead", True, "ledger.rolled-back"),
        ("ahead", False, "ledger.rolled-back"),
        ("forked", False, "ledger.forked"),
        ("rewritten", True, "ledger.forked"),
        ("rewritten", False, "ledger.rewritten"),
    ],
)
def test_what_stops_the_log_has_a_name(verdict: witness.Verdict, own_prefix: bool, code: str) -> None:
    error = witness.stop(LINE, witness.Heard(verdict, "", 9), 5, "box/ledger", own_prefix)
    assert error.problem.code == code and "the witness eye" in error.problem.what and "9" in error.problem.what


def test_addresses_are_submission_prefixes() -> None:
    assert witness.submission_url(LINE) == "https://eye.example/witness/add-checkpoint"
    assert [one.name for one in witness.reached(BOTH)] == ["eye"]


def test_cosignatures_of_one_checkpoint_come_together() -> None:
    log = Log().grow(5)
    eye, ear = cosign(log.text, WITNESS, 7), cosign(log.text, OTHER, 8)
    first = witness.cosigned_note(log.note, None, [eye])
    second = witness.cosigned_note(log.note, first, [ear])
    assert [one.name for one in parse_note(second).signatures] == [LOG.name, "eye/witness", "ear/witness"]
    again = witness.cosigned_note(log.note, second, [cosign(log.text, WITNESS, 99)])
    assert parse_note(again).signatures[1].data[:8] == (99).to_bytes(8, "big") and len(parse_note(again).signatures) == 3
    assert witness.cosigners(first, BOTH) == {"eye"} and witness.cosigners(second, BOTH) == {"eye", "ear"}
    newer = log.grow(1)
    fresh = witness.cosigned_note(newer.note, second, [cosign(newer.text, WITNESS, 9)])
    assert [one.name for one in parse_note(fresh).signatures] == [LOG.name, "eye/witness"], "another text, other signatures"


def test_a_checkpoint_with_the_quorum_is_not_given_up_for_one_without() -> None:
    log = Log().grow(5)
    whole = witness.cosigned_note(log.note, None, [cosign(log.text, WITNESS, 7), cosign(log.text, OTHER, 8)])
    newer = log.grow(1)
    half = witness.cosigned_note(newer.note, None, [cosign(newer.text, WITNESS, 9)])
    assert witness.better(half, None, BOTH) and witness.better(half, half, BOTH) and witness.better(whole, half, BOTH)
    assert not witness.better(half, whole, BOTH)
    assert witness.better(half, whole, ONE)


def test_a_witness_knows_logs_by_origin() -> None:
    newer = new_signing_key(LOG.name, 1, b"n" * 32).verifier
    assert witness.keys_by_origin([LOG.verifier, newer]) == {LOG.name: (LOG.verifier, newer)}
