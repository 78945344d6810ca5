from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.tlog.cosignature import cosign
from stead.tlog.keys import COSIGNATURE, ED25519, MLDSA, VerifierKey, new_signing_key
from stead.tlog.merkle import Unproven
from stead.tlog.note import Note, parse_note, sign_note
from stead.tlog.policy import (
    LINES_MAX,
    POLICY_MAX_BYTES,
    Group,
    LogLine,
    TrustPolicy,
    WitnessLine,
    check_checkpoint,
    format_policy,
    parse_policy,
    satisfied,
)
from stead.tlog.strict import Malformed
from tests.fuzz.__main__ import feed
from tests.fuzz.targets import TARGETS
from tests.tlog import logs
from tests.tlog.mutated import any_input
from tests.tlog.published import published

VECTORS = published("c2sp_formats.json")["tlog_policy"]
REASONS = {  # theirs → ours
    "policy file must define a quorum": "must define a quorum",
    'quorum component \\"unknown\\" not found': "quorum component 'unknown' not found",
    "duplicate component name": "duplicate component name",
    "invalid threshold": "invalid threshold",
    "invalid witness name": "invalid witness name",
    "invalid group name": "invalid group name",
}
KEYS = [new_signing_key(f"k{n}", COSIGNATURE, bytes([n]) * 32).verifier for n in range(1, 13)]
VKEY, OTHER = KEYS[0].text, KEYS[1].text
HEAD = logs.checkpoint()


def test_every_published_policy_is_there() -> None:
    assert [case["ok"] for case in VECTORS] == [True] * 5 + [False] * 6


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_published_policies(case: dict[str, str]) -> None:
    if not case["ok"]:
        with pytest.raises(Malformed, match=REASONS[case["err"]]):
            parse_policy(case["policy"].encode())
        return
    policy = parse_policy(case["policy"].encode())
    assert parse_policy(format_policy(policy)) == policy
    assert policy.quorum == "g1"
    assert policy.groups[0].threshold == (case["wantN"] or 2)


def test_white_space_and_comments_say_nothing() -> None:
    tidy, spaced = (parse_policy(case["policy"].encode()) for case in VECTORS[:2])
    assert tidy == spaced


def test_an_address_may_hold_a_hash_sign() -> None:
    policy = parse_policy(f"log {VKEY} https://a.example/#b #c\nquorum none\n".encode())
    assert policy.logs[0].url == "https://a.example/#b"


def test_a_key_under_two_names_counts_once() -> None:
    """The published policies hold such lines: w2 and w3 are one key."""
    policy = parse_policy(VECTORS[2]["policy"].encode())
    assert policy.groups == (Group("g1", 2, ("w1", "w2", "w3", "w4")),)
    assert not satisfied(policy, {"w2", "w3"})
    assert satisfied(policy, {"w1", "w2", "w3"})
    assert satisfied(policy, {"w3", "w1", "w4"})
    assert not satisfied(policy, {"w1", "w3"})  # the second name never counts
    everyone = parse_policy(VECTORS[3]["policy"].encode())
    assert not satisfied(everyone, {"w1", "w2", "w3"})


def test_a_key_under_two_names_counts_once_across_groups_and_kinds() -> None:
    other = VerifierKey("other", ED25519, KEYS[0].public)
    text = f"witness a {VKEY}\nwitness b {other.text}\n"
    policy = parse_policy(f"{text}group one any a\ngroup two any b\ngroup g all one two\nquorum g\n".encode())
    assert not satisfied(policy, {"a", "b"})


def test_a_checkpoint_cosigned_by_one_key_under_two_names_counts_once() -> None:
    first = logs.WITNESSES[0]
    again = new_signing_key("again.example", COSIGNATURE, first.seed)
    policy = logs.policy(2, (first, again))
    note = logs.signed(HEAD, (first, again))
    with pytest.raises(Unproven, match="quorum"):
        check_checkpoint(note, policy)
    assert check_checkpoint(note, logs.policy(1, (first, again))).witnesses == (("w1", logs.TIME_S),)


def test_the_example_of_the_specification() -> None:
    names = ["X1", "X2", "X3", "Y1", "Y2", "Y3"]
    lines = [f"witness {name} {key.text}" for name, key in zip(names, KEYS, strict=False)]
    text = "\n".join(
        [
            f"log {KEYS[8].text}",
            *lines,
            "group X-witnesses 2 X1 X2 X3",
            "group Y-witnesses any Y1 Y2 Y3",
            "group X-and-Y all X-witnesses Y-witnesses",
            "quorum X-and-Y\n",
        ]
    )
    policy = parse_policy(text.encode())
    assert satisfied(policy, {"X1", "X3", "Y2"})
    assert not satisfied(policy, {"X1", "X2", "X3"})
    assert not satisfied(policy, {"X1", "Y1", "Y2", "Y3"})


def test_quorums_of_one_and_of_none() -> None:
    one = parse_policy(f"witness a {VKEY}\nwitness b {OTHER}\nquorum b\n".encode())
    assert satisfied(one, {"b"})
    assert not satisfied(one, {"a"})
    none = parse_policy(b"quorum none\n")
    assert none == TrustPolicy((), (), (), "none")
    assert satisfied(none, set())


def test_no_name_that_is_given_stands_for_a_group_or_none() -> None:
    policy = parse_policy(f"witness a {VKEY}\ngroup g any a\nquorum g\n".encode())
    assert not satisfied(policy, {"g", "none", "any", "unknown"})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("quorum none", "no newline"),
        ("", "must define a quorum"),
        ("quorum none\nquorum none\n", "already"),
        ("quorum\n", "one name"),
        ("quorum a b\n", "one name"),
        (f"quorum a\nwitness a {VKEY}\n", "not found above"),
        (f"group g any a\nwitness a {VKEY}\nquorum g\n", "not found above"),
        (f"witness a {VKEY}\ngroup g any g\nquorum g\n", "not found above"),
        (f"witness a {VKEY}\ngroup g any none\nquorum g\n", "not found above"),
        (f"witness a {VKEY}\ngroup g any\nquorum g\n", "members"),
        (f"witness a {VKEY}\ngroup g 0 a\nquorum g\n", "threshold"),
        (f"witness a {VKEY}\ngroup g 2 a\nquorum g\n", "threshold"),
        (f"witness a {VKEY}\ngroup g 01 a\nquorum g\n", "threshold"),
        (f"witness a {VKEY}\ngroup g most a\nquorum g\n", "threshold"),
        (f"witness a {VKEY}\ngroup g any a a\nquorum g\n", "twice"),
        (f"witness a {VKEY}\ngroup g any a\ngroup h any a\nquorum g\n", "twice"),
        (f"witness a {VKEY}\ngroup a any a\nquorum a\n", "duplicate component name"),
        (f"witness a {VKEY}\nwitness a {OTHER}\nquorum a\n", "duplicate component name"),
        (f"witness any {VKEY}\nquorum none\n", "invalid witness name"),
        (f"witness none {VKEY}\nquorum none\n", "invalid witness name"),
        (f"witness a {VKEY}\ngroup all any a\nquorum none\n", "invalid group name"),
        (f"witness a {VKEY} https://a b\nquorum a\n", "a witness has"),
        ("witness a\nquorum none\n", "a witness has"),
        ("log\nquorum none\n", "a log has"),
        (f"log {VKEY} https://a b\nquorum none\n", "a log has"),
        (f"log {VKEY}\nlog {VKEY}\nquorum none\n", "already listed"),
        ("log x\nquorum none\n", "vkey"),
        (f"log {VKEY[:-1]}\nquorum none\n", "line 1: vkey"),
        ("Quorum none\n", "not a log"),
        ("none\n", "not a log"),
        ("quorum none\r\n", "control character"),
        ("quorum\x0bnone\n", "control character"),
        ("quorum none\x7f\n", "control character"),
        ("quorum\u00a0none\n", "not a log"),
        ("quorum none\n\n#\0\n", "control character"),
    ],
)
def test_what_is_no_policy(text: str, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        parse_policy(text.encode())


def test_the_same_key_as_log_under_another_name_is_still_the_same_key() -> None:
    plain = VerifierKey("x", ED25519, KEYS[0].public)
    with pytest.raises(Malformed, match="already listed"):
        parse_policy(f"log {VKEY}\nlog {plain.text}\nquorum none\n".encode())


def test_names_are_opaque_octets() -> None:
    kelvin, letter, broken = "\u212a".encode(), b"K", b"\xff\xfe"
    lines = [b"witness %s %s\n" % (name, key.text.encode()) for name, key in zip((kelvin, letter, broken), KEYS, strict=False)]
    data = b"".join(lines) + b"group g 3 %s %s %s\nquorum g\n" % (broken, letter, kelvin)
    policy = parse_policy(data)
    assert format_policy(policy) == data
    assert len({witness.name for witness in policy.witnesses}) == 3


def test_limits() -> None:
    assert parse_policy(b"# " + b"x" * (POLICY_MAX_BYTES - 15) + b"\nquorum none\n")
    with pytest.raises(Malformed, match="bytes"):
        parse_policy(b"# " + b"x" * (POLICY_MAX_BYTES - 14) + b"\nquorum none\n")
    groups = [f"group g{n} any {f'g{n - 1}' if n else 'a'}\n" for n in range(LINES_MAX + 1)]
    chain = parse_policy((f"witness a {VKEY}\n" + "".join(groups[:-1]) + f"quorum g{LINES_MAX - 1}\n").encode())
    assert satisfied(chain, {"a"})
    assert not satisfied(chain, set())
    with pytest.raises(Malformed, match=str(LINES_MAX)):
        parse_policy((f"witness a {VKEY}\n" + "".join(groups) + "quorum a\n").encode())
    with pytest.raises(Malformed, match="group"):
        parse_policy(b"group g any " + b"a " * (POLICY_MAX_BYTES // 2 - 100) + b"\nquorum none\n")


@st.composite
def policies(draw: st.DrawFn) -> TrustPolicy:
    """Any tree of groups over distinct keys: each name is a member once at most, and refers to what is above it."""
    witnesses = tuple(WitnessLine(f"w{n}", key) for n, key in enumerate(KEYS[: draw(st.integers(1, 8))]))
    free = [witness.name for witness in witnesses]
    groups: list[Group] = []
    for n in range(draw(st.integers(0, 5))):
        members = draw(st.lists(st.sampled_from(free), min_size=1, unique=True)) if free else []
        if members:
            groups.append(Group(f"g{n}", draw(st.integers(1, len(members))), tuple(members)))
            free = [name for name in free if name not in members] + [f"g{n}"]
    quorum = draw(st.sampled_from([*(witness.name for witness in witnesses), *(group.name for group in groups), "none"]))
    return TrustPolicy((LogLine(KEYS[11], "https://log.example/"),), witnesses, tuple(groups), quorum)


def reached(policy: TrustPolicy, name: str, names: set[str]) -> bool:
    """The specification's definition, recursively."""
    for group in policy.groups:
        if group.name == name:
            return sum(reached(policy, member, names) for member in group.members) >= group.threshold
    return name == "none" or name in names


@given(policies(), st.data())
def test_any_policy_reads_back_and_is_satisfied_as_defined(policy: TrustPolicy, data: st.DataObject) -> None:
    assert parse_policy(format_policy(policy)) == policy
    names = set(data.draw(st.lists(st.sampled_from([witness.name for witness in policy.witnesses]))))
    assert satisfied(policy, names) == reached(policy, policy.quorum, names)
    if satisfied(policy, names):
        assert satisfied(policy, names | {witness.name for witness in policy.witnesses})  # more never hurts


@given(any_input(*TARGETS["policy"].seeds))
def test_any_bytes_are_a_policy_or_refused(data: bytes) -> None:
    feed(TARGETS["policy"], data)


def test_an_accepted_checkpoint_names_who_signed() -> None:
    accepted = check_checkpoint(logs.signed(HEAD, logs.WITNESSES), logs.policy())
    assert accepted.checkpoint == HEAD
    assert accepted.logs == (logs.LOG.verifier,)
    assert accepted.witnesses == tuple((f"w{n}", logs.TIME_S) for n in (1, 2, 3))


def test_without_quorum_the_logs_signature_is_enough_and_nothing_less() -> None:
    assert check_checkpoint(logs.signed(HEAD), logs.policy(0)).witnesses == ()
    with pytest.raises(Unproven, match="no log"):
        check_checkpoint(Note(HEAD.text, tuple(cosign(HEAD.text, key, 1) for key in logs.WITNESSES)), logs.policy(0))


def test_a_trusted_key_counts_only_for_the_log_of_its_name() -> None:
    other = HEAD._replace(origin="other.example/ledger")
    with pytest.raises(Unproven, match="no log"):
        check_checkpoint(logs.signed(other, logs.WITNESSES), logs.policy())


def test_one_name_may_have_two_keys_while_a_key_is_renewed() -> None:
    new = new_signing_key(logs.ORIGIN, ED25519, b"new-" * 8)
    policy = logs.policy(0)._replace(logs=(LogLine(logs.LOG.verifier), LogLine(new.verifier)))
    assert check_checkpoint(sign_note(HEAD.text, [new]), policy).logs == (new.verifier,)
    assert check_checkpoint(sign_note(HEAD.text, [new, logs.LOG]), policy).logs == (logs.LOG.verifier, new.verifier)


def test_a_witness_given_by_its_plain_key_cosigns_with_it() -> None:
    witness = logs.WITNESSES[0]
    plain = VerifierKey(witness.name, ED25519, witness.public)
    policy = logs.policy(1, logs.WITNESSES[:1])._replace(witnesses=(WitnessLine("w1", plain),))
    assert check_checkpoint(logs.signed(HEAD, (witness,)), policy).witnesses == (("w1", logs.TIME_S),)
    same_key = new_signing_key(witness.name, ED25519, witness.seed)
    with pytest.raises(Unproven, match="quorum"):  # a plain signature is no cosignature
        check_checkpoint(Note(HEAD.text, sign_note(HEAD.text, [logs.LOG, same_key]).signatures), policy)


def test_an_mldsa_witness_never_counts() -> None:
    key = VerifierKey("pq.example", MLDSA, bytes(1312))
    policy = logs.policy(0)._replace(witnesses=(WitnessLine("pq", key),), quorum="pq")
    assert parse_policy(format_policy(policy)) == policy
    line = logs.signed(HEAD, logs.WITNESSES[:1]).signatures[1]._replace(name=key.name, key_id=key.id)
    with pytest.raises(Unproven, match="quorum"):
        check_checkpoint(Note(HEAD.text, (*logs.signed(HEAD).signatures, line)), policy)


def test_a_bad_cosignature_of_a_known_witness_is_refused_even_beyond_the_quorum() -> None:
    note = logs.signed(HEAD, logs.WITNESSES)
    bad = note.signatures[-1]._replace(data=note.signatures[-2].data)
    with pytest.raises(Unproven, match="not good"):
        check_checkpoint(Note(note.text, (*note.signatures[:-1], bad)), logs.policy())


def test_a_note_that_is_no_checkpoint_is_malformed() -> None:
    with pytest.raises(Malformed, match="checkpoint"):
        check_checkpoint(parse_note("a note\n\n— x AAAAAAA=\n".encode()), logs.policy())
