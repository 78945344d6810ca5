from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from stead.flow import record, runs
from stead.flow.record import entry, plan_hash
from stead.ledger.leaf import LEAF_MAX_BYTES, Blob, canonical, decimal_string, leaf, restrict, uuid7
from stead.model.change import Attempt, Receipt
from stead.model.find import Finding
from stead.model.observe import MetricsSnapshot, Now
from stead.model.policy import Actor
from stead.model.record import Entry
from tests.flow.kit import NOW, counter, decision, dial_step, proposal, stamp

SALT = b"0123456789abcdef"
text = st.text(alphabet=st.characters(codec=None), max_size=20)  # with lone surrogates
scalars = st.none() | st.booleans() | st.integers() | st.floats() | text
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4), max_leaves=12
)


def made(body: Any, bulk: bytes | None = None) -> Entry:
    return Entry("01", "test.made", "host1", NOW.unix_ms, Actor("agent", "stead"), body, bulk=bulk)


@given(st.dictionaries(text, anything, max_size=5))
def test_leaf_bytes_equal_an_independent_rfc8785(body: dict[str, Any]) -> None:
    data, _ = leaf(made(body), SALT)
    parsed = json.loads(data)
    assert rfc8785.dumps(parsed) == data
    assert parsed["body"] == restrict(body)
    assert_restricted(parsed)


def assert_restricted(value: Any) -> None:
    assert not isinstance(value, float)
    if isinstance(value, int) and not isinstance(value, bool):
        assert abs(value) < 2**53
    if isinstance(value, str):
        value.encode("utf-8")
    if isinstance(value, dict):
        assert all(name.isascii() for name in value)
        for item in value.values():
            assert_restricted(item)
    if isinstance(value, list):
        for item in value:
            assert_restricted(item)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_are_decimal_strings_that_read_back(value: float) -> None:
    told = decimal_string(value)
    assert "e" not in told.lower()
    assert float(told) == value


@given(st.dictionaries(text.map(lambda name: name.encode("utf-8", "replace").decode()), st.integers(0, 9), max_size=8))
def test_names_are_escaped_one_to_one(body: dict[str, int]) -> None:
    assert len(restrict(body)) == len(body)


def test_special_values() -> None:
    assert restrict([float("nan"), float("inf"), float("-inf"), 2**53 - 1, 2**53, -(2**60), True, "\ud800"]) == [
        "NaN",
        "Infinity",
        "-Infinity",
        2**53 - 1,
        str(2**53),
        str(-(2**60)),
        True,
        "?",
    ]


def test_leaf_has_the_members_of_the_format() -> None:
    data, blob = leaf(made({"a": 1}, b"detail"), SALT)
    parsed = json.loads(data)
    assert sorted(parsed) == ["actor", "blob", "body", "host", "id", "prev_cause", "ts", "type", "v"]
    assert parsed["ts"] == "2023-11-14T22:13:20.000000Z"
    assert blob is not None
    assert parsed["blob"] == blob.ref == "sha256:" + hashlib.sha256(SALT + b"detail").hexdigest()
    assert "blob" not in json.loads(leaf(made({}), SALT)[0])


def test_an_entrys_own_salt_makes_its_leaf_known_before_it_is_stored() -> None:
    one = msgspec.structs.replace(made({"a": 1}, b"detail"), salt=b"f" * 16)
    assert leaf(one, SALT) == leaf(one, b"other") != leaf(made({"a": 1}, b"detail"), SALT)
    assert leaf(one, SALT)[1] == Blob("sha256:" + hashlib.sha256(b"f" * 16 + b"detail").hexdigest(), b"f" * 16, b"detail")


@given(st.integers(60_000, 70_000))
def test_oversize_goes_to_the_blob(size: int) -> None:
    data, blob = leaf(made({"text": "x" * size}, b"detail"), SALT)
    assert len(data) <= LEAF_MAX_BYTES
    assert isinstance(blob, Blob)
    if size > 65_535:
        assert json.loads(blob.data) == {"body": {"text": "x" * size}, "bulk": "detail"}
        assert json.loads(data)["body"]["oversize_bytes"] > LEAF_MAX_BYTES


def test_what_can_not_fit_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        leaf(Entry("01", "t", "h" * 70_000, 0, Actor("agent", "stead"), {}), SALT)


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_uuid7_has_its_version_and_sorts_by_time(unix_ms: int, random: bytes) -> None:
    one = uuid7(unix_ms, random)
    assert one[14] == "7" and one[19] in "89ab" and len(one) == 36
    assert uuid7(max(0, unix_ms - 1), b"\0" * 10) <= one


def test_plan_hash_covers_before_identity_want_and_undo() -> None:
    base = dial_step()
    others = [
        dial_step(before=2),
        dial_step(want=8),
        dial_step(undo="none"),
        dial_step(actuator="other"),
        dial_step(target=base.target.__class__("dial", "a", {"life": "2"})),
    ]
    assert len({plan_hash((step,)) for step in (base, *others)}) == 6
    assert plan_hash((base,)) == plan_hash((dial_step(note="in other words"),))


def test_personal_data_is_beside_the_leaf() -> None:
    finding = Finding(
        "f1", "band|m|s", "band", "m", "process:1@2", "warning", "secret-title", 1.5, 0.9, "cores", 1, 2, 3,
        evidence=((1, 0.5),), labels={"command": "secret-command"},
    )  # fmt: skip
    for one in (record.finding_opened(finding, stamp()), record.finding_cleared(finding, stamp())):
        data, blob = leaf(one, SALT)
        assert b"secret" not in data
        assert blob is not None and b"secret-command" in blob.data and b"secret-title" in blob.data


def test_a_receipt_binds_all_that_led_to_it() -> None:
    run, _ = runs.start(proposal(), decision(), stamp())
    run, _ = runs.begin(run, stamp())
    attempt = Attempt("t1", run.id, 0, "forward", {"level": 1}, {"level": 9}, NOW.unix_ms)
    run, _ = runs.attempted(run, attempt, stamp())
    made_ = record.receipt_made(run, Receipt("t1", 0, "forward", "done", {"level": 9}, "EIO: /home/ann", NOW.unix_ms), stamp())
    body = json.loads(leaf(made_, SALT)[0])["body"]
    assert body["plan_hash"] == run.proposal.plan_hash and body["policy_version"] == "p1" and body["finding"] == "finding-1"
    assert body["before"] == {"level": 1} and body["want"] == {"level": 9} and body["receipt"]["after"] == {"level": 9}
    assert b"/home/ann" not in leaf(made_, SALT)[0]


def test_the_hash_of_snapshots_does_not_depend_on_their_order_but_on_their_content() -> None:
    def shot(metric: str, top: float) -> MetricsSnapshot:
        return MetricsSnapshot(metric, "host", 0, 300_000, 3, 0, 1.0, top, 2.0, 2.0, top, top, 0, 300.0, 0.0, 0.0, 0.0)

    def hashed(*shots: MetricsSnapshot) -> str:
        return str(record.snapshots_taken(shots, 0, 300_000, stamp()).body["hash"])

    assert hashed(shot("a", 3.0), shot("b", 4.0)) == hashed(shot("b", 4.0), shot("a", 3.0))
    assert hashed(shot("a", 3.0)) != hashed(shot("a", 3.1))


def test_an_entry_says_what_it_is_about() -> None:
    one = entry(
        "test.made", record.Stamp("h", Now(5, 5), counter()), {"x": 1}, subject="run-1", cause="e0", bulk={"why": "\ud800"}
    )
    assert one.body == {"about": "run-1", "x": 1} and one.prev_cause == "e0" and one.ts_ms == 5
    assert canonical(one.body) == b'{"about":"run-1","x":1}'
    assert one.bulk == b'{"why":"?"}'
