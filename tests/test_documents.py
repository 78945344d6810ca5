from __future__ import annotations

import typing

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from stead import documents
from stead.model.errors import SteadError


class Inner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    size: int = 0


class Outer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    inner: Inner = Inner()
    many: tuple[Inner, ...] = ()
    by_name: dict[str, Inner] = {}
    either: str | Inner | None = None


def wrongs(text: str) -> list[str]:
    return [f"{p.what} @ {p.where}" for p in documents.problems(documents.parse(text, "f"), Outer, code="t")]


def test_each_mistake_has_its_line():
    text = "name: 3\ninner:\n  sise: 1\nmany:\n  - {size: 1}\n  - size: x\nby_name:\n  a: {seize: 2}\neither: {zise: 1}\n"
    assert wrongs(text) == [
        "name should be a text, and is a whole number @ f, line 1",
        "unknown key inner.sise @ f, line 3",
        "many[1].size should be a whole number, and is a text @ f, line 6",
        "unknown key by_name.a.seize @ f, line 8",
        "unknown key either.zise @ f, line 9",
    ]


def test_a_word_that_is_none_of_the_choices_gets_them_named():
    kind = typing.Literal["cpu", "memory", "io"] | None
    found = documents.problems(documents.parse("cpuu", "f"), kind, code="t")
    assert [one.what for one in found] == ["the document should be cpu, memory or io, and is 'cpuu'"]


def test_a_missing_key_and_an_empty_one():
    assert wrongs("inner:\n") == ["the document lacks the key name @ f, line 1"]
    assert wrongs("name: a\ninner:\nmany:\n") == []


@pytest.mark.parametrize(
    ("text", "what", "where"),
    [
        ("a: [1\nb: 2", "this is not YAML", "f, line 2"),
        ("a: 1\nb: 2\na: 3\n", "the key a is given twice", "f, line 3"),
        ("a: &x [*x]\n", "", "f, line 1"),
        ("a: \x00", "this is not YAML", "f"),
        ("a: !!python/object/apply:os.system [x]", "", "f"),
    ],
)
def test_what_can_not_be_read_is_one_error(text, what, where):
    with pytest.raises(SteadError) as raised:
        document = documents.parse(text, "f")
        assert documents.problems(document, Outer, code="t") != []
        raise SteadError.of(documents.problems(document, Outer, code="t")[0])
    assert what in raised.value.problem.what
    assert raised.value.problem.where.startswith(where)
    assert raised.value.problem.exit_code == 2


def test_a_bomb_of_aliases_is_refused():
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    with pytest.raises(SteadError, match="too large"):
        documents.parse("\n".join(levels), "f")


def test_merge_keys_may_be_overruled():
    document = documents.parse("base: &b {x: 1, y: 2}\nover:\n  <<: *b\n  x: 3\n", "f")
    assert document.value["over"] == {"x": 3, "y": 2}


def test_later_documents_win_and_keep_their_own_lines():
    under = documents.parse("a: {x: 1, y: [1, 2]}\nb: 1\n", "under")
    over = documents.parse("\n\na:\n  y: [3]\n  z: 9\n", "over")
    merged = documents.merge(under, over)
    assert merged.value == {"a": {"x": 1, "y": [3], "z": 9}, "b": 1}
    assert merged.where(("a", "x")) == "under, line 1"
    assert merged.where(("a", "y")) == "over, line 4"
    assert merged.where(("a", "y", 0)) == "over, line 4"
    assert merged.where(("a", "z")) == "over, line 5"


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="ascii", categories=("L", "N"))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(plain)
def test_values_are_those_that_yaml_itself_reads(value):
    text = yaml.safe_dump(value)
    assert documents.parse(text, "f").value == yaml.safe_load(text)
