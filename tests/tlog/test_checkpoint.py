from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.tlog.checkpoint import Checkpoint, parse_checkpoint
from stead.tlog.note import NOTE_MAX_BYTES, parse_note
from stead.tlog.strict import Malformed, encode64
from tests.fuzz.__main__ import feed
from tests.fuzz.targets import TARGETS
from tests.tlog import logs
from tests.tlog.mutated import any_input
from tests.tlog.published import published

VECTORS = published("c2sp_formats.json")["checkpoint_parse"]
ROOT = encode64(bytes(range(32)))
# The published valid checkpoints, and why none of them is one that may be verified.
REFUSED_BECAUSE = {
    "valid one": "7 bytes where 32 belong",
    "valid with different origin": "37 bytes where 32 belong",
    "valid with trailing data": "37 bytes where 32 belong",
    "valid with multiple trailing data lines": "37 bytes where 32 belong",
    "valid with trailing newlines": "an extension line is empty",
}
LINE = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)


def test_every_published_checkpoint_is_there() -> None:
    assert [case["name"] for case in VECTORS if case["ok"]] == list(REFUSED_BECAUSE)
    assert len(VECTORS) == 12


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_published_checkpoints_with_their_dummy_roots(case: dict[str, str]) -> None:
    if case["ok"]:
        assert parse_checkpoint(case["body"], lenient=True).text == case["body"]
    else:
        with pytest.raises(Malformed):
            parse_checkpoint(case["body"], lenient=True)


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_published_checkpoints_as_verification_reads_them(case: dict[str, str]) -> None:
    with pytest.raises(Malformed, match=REFUSED_BECAUSE.get(case["name"])):
        parse_checkpoint(case["body"])


@pytest.mark.parametrize("case", [case for case in VECTORS if case["ok"]], ids=lambda case: case["name"])
def test_published_checkpoints_with_whole_roots(case: dict[str, str]) -> None:
    origin, size, _, rest = case["body"].split("\n", 3)
    body = f"{origin}\n{size}\n{ROOT}\n{rest}"
    if case["name"] == "valid with trailing newlines":
        with pytest.raises(Malformed, match="empty"):
            parse_checkpoint(body)
    else:
        assert parse_checkpoint(body) == Checkpoint(origin, int(size), bytes(range(32)), rest)


def test_a_real_checkpoint() -> None:
    case = next(case for case in published("signed_note.json")["open"] if case["name"].startswith("REAL"))
    head = parse_checkpoint(parse_note(case["note"].encode()).text)
    assert (head.origin, head.size, head.extension) == ("go.sum database tree", 35_225_469, "")


@pytest.mark.parametrize(
    "text",
    [
        f"log\n01\n{ROOT}\n",
        f"log\n+1\n{ROOT}\n",
        f"log\n 1\n{ROOT}\n",
        f"log\n1 \n{ROOT}\n",
        f"log\n\u0661\n{ROOT}\n",
        f"log\n\n{ROOT}\n",
        f"log\n{2**63}\n{ROOT}\n",
        f"log\n1\n{ROOT} \n",
        f"log\n1\n{ROOT[:-4]}\n",
        f"log\n1\n{ROOT[:-2]}9=\n",
        f"log\n1\n{ROOT}",
        f"log\n1\n{ROOT}\nextension",
        f"log\n1\n{ROOT}\n\n",
        f"log\n1\n{ROOT}\na\n\nb\n",
        f"log\r\n1\n{ROOT}\n",
        f"log\n1\n{ROOT}\na\tb\n",
        f"\nlog\n1\n{ROOT}\n",
        f"{'x' * NOTE_MAX_BYTES}\n1\n{ROOT}\n",
        "",
    ],
)
def test_what_is_no_checkpoint(text: str) -> None:
    with pytest.raises(Malformed):
        parse_checkpoint(text)


@given(LINE, st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32), st.lists(LINE, max_size=3))
def test_a_checkpoint_reads_back(origin: str, size: int, root: bytes, lines: list[str]) -> None:
    head = Checkpoint(origin, size, root, "".join(line + "\n" for line in lines))
    assert parse_checkpoint(head.text) == head


def test_the_text_is_as_the_specification_shows_it() -> None:
    assert Checkpoint("example.com/log", 3, bytes(range(32))).text == f"example.com/log\n3\n{ROOT}\n"
    assert logs.checkpoint().text.count("\n") == 3


@given(any_input(*TARGETS["checkpoint"].seeds))
def test_any_text_is_a_checkpoint_or_refused(data: bytes) -> None:
    feed(TARGETS["checkpoint"], data)
