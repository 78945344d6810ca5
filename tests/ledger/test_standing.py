from __future__ import annotations

from pathlib import Path

import pytest

from stead.ledger.standing import KEPT, STOPPED, Standing, compare, generation
from stead.model.errors import SteadError
from stead.tlog.checkpoint import Checkpoint, parse_checkpoint
from stead.tlog.keys import ED25519, new_signing_key
from stead.tlog.note import parse_note
from tests.ledger.witnessing import LOG, WITNESS, Log

KEYS = (LOG.verifier,)
EYE = WITNESS.verifier


def kept(log: Log) -> Checkpoint:
    return parse_checkpoint(parse_note(log.note).text)


def code_of(error: SteadError | None) -> str:
    return error.problem.code if error else ""


def test_a_ledger_that_goes_on_is_fine() -> None:
    log = Log().grow(5)
    earlier = kept(log)
    assert compare(earlier, "kept", log) is None
    assert compare(earlier, "kept", log.grow(300)) is None


def test_each_way_to_lose_history_has_its_name_and_a_way_on() -> None:
    true = Log().grow(5)
    cases = {
        "ledger.rolled-back": Log(true.leaves[:4]),
        "ledger.forked": Log(true.leaves[:4]).grow(1, "other"),
        "ledger.rewritten": Log(["changed", *true.leaves[1:]]).grow(1),
    }
    for code, log in cases.items():
        error = compare(kept(true), "kept", log)
        assert code_of(error) == code and "stead ledger renew" in str(error)


def test_an_older_log_of_the_same_host_was_put_back() -> None:
    old, new = Log().grow(5), Log(key=new_signing_key(f"{LOG.name}/2", ED25519, b"2" * 32)).grow(1)
    assert code_of(compare(kept(new), "kept", old)) == "ledger.rolled-back"
    assert compare(kept(old), "kept", new) is None, "what was kept before the renewal says nothing against it"
    assert compare(kept(Log(key=new_signing_key("elsewhere/ledger/9", ED25519, b"9" * 32))), "kept", old) is None
    assert [generation(origin) for origin in ("a/ledger", "a/ledger/2", "a/7")] == [("a/ledger", 1), ("a/ledger", 2), ("a", 7)]


def test_the_newest_checkpoint_is_kept_once_a_second(tmp_path: Path) -> None:
    now_s = [100.0]
    standing, log = Standing(tmp_path, lambda: now_s[0]), Log()
    first = log.grow(1).note
    standing.keep(first)
    standing.keep(log.grow(1).note)
    assert (tmp_path / KEPT).read_bytes() == first
    now_s[0] += 1.0
    standing.keep(third := log.grow(1).note)
    assert (tmp_path / KEPT).read_bytes() == third and (tmp_path / KEPT).stat().st_mode & 0o777 == 0o600
    standing.keep(last := log.grow(1).note)
    standing.settle()
    assert (tmp_path / KEPT).read_bytes() == last
    assert [path.name for path in tmp_path.iterdir()] == [KEPT]


def test_a_directory_that_can_not_be_written_stops_nothing(tmp_path: Path) -> None:
    standing = Standing(tmp_path / "file" / "state")
    (tmp_path / "file").write_text("in the way")
    standing.keep(Log().grow(1).note)
    standing.settle()
    assert standing.last() is None


def test_what_is_kept_counts_only_when_the_log_signed_it(tmp_path: Path) -> None:
    standing, short = Standing(tmp_path), Log().grow(2)
    assert standing.check(short, KEYS, []) is None
    standing.keep(Log().grow(9).note)
    assert code_of(standing.check(short, KEYS, [])) == "ledger.rolled-back"
    forged = Log(key=new_signing_key(LOG.name, ED25519, b"f" * 32)).grow(9)
    (tmp_path / KEPT).write_bytes(forged.note)
    assert standing.check(short, KEYS, []) is None
    (tmp_path / KEPT).write_bytes(b"rubbish")
    assert standing.check(short, KEYS, []) is None


def said(code: str) -> SteadError:
    return SteadError("a witness said so", "box/ledger", "do this", code=code)


def test_what_a_witness_said_outlives_the_process(tmp_path: Path) -> None:
    log = Log().grow(5)
    Standing(tmp_path).stop(said("ledger.rolled-back"), log, 9, EYE)
    error = Standing(tmp_path).check(log, KEYS, [EYE.text])
    assert error is not None and error.problem == said("ledger.rolled-back").problem
    assert Standing(tmp_path).check(log.grow(3), KEYS, [EYE.text]) is not None, "8 are still fewer than 9"
    assert Standing(tmp_path).check(log.grow(1), KEYS, [EYE.text]) is None, "the newer state is back"


@pytest.mark.parametrize("code", ["ledger.forked", "ledger.rewritten"])
def test_a_bad_history_stays_bad_until_it_is_replaced(tmp_path: Path, code: str) -> None:
    bad = Log().grow(5, "bad")
    Standing(tmp_path).stop(said(code), bad, 5, EYE)
    assert code_of(Standing(tmp_path).check(bad.grow(4), KEYS, [EYE.text])) == code
    assert Standing(tmp_path).check(Log().grow(9), KEYS, [EYE.text]) is None
    assert Standing(tmp_path).check(Log().grow(3), KEYS, [EYE.text]) is None


def test_a_witness_that_is_not_trusted_any_more_holds_nothing_up(tmp_path: Path) -> None:
    log = Log().grow(5)
    Standing(tmp_path).stop(said("ledger.forked"), log, 5, EYE)
    assert Standing(tmp_path).check(log, KEYS, []) is None
    (tmp_path / STOPPED).write_bytes(b"{")
    assert Standing(tmp_path).check(log, KEYS, [EYE.text]) is None


def test_after_a_renewal_nothing_is_held_against_the_new_log(tmp_path: Path) -> None:
    standing, old = Standing(tmp_path), Log().grow(9)
    standing.keep(old.note)
    standing.stop(said("ledger.forked"), old, 9, EYE)
    new = Log(key=new_signing_key(f"{LOG.name}/2", ED25519, b"2" * 32)).grow(1)
    standing.renewed(new.note)
    assert not (tmp_path / STOPPED).exists() and standing.check(new, (new.key.verifier,), [EYE.text]) is None
    assert code_of(standing.check(old, KEYS, [EYE.text])) == "ledger.rolled-back", "the old one must not come back"
