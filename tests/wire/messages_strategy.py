"""Hypothesis strategies for every message, built from the types themselves: a field that is added later is covered."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect as mi

SMALL = 3  # items in a collection
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def values_of(kind: mi.Type) -> st.SearchStrategy[Any]:
    """Values of one inspected type."""
    simple: dict[type[mi.Type], st.SearchStrategy[Any]] = {
        mi.NoneType: st.none(),
        mi.BoolType: st.booleans(),
        mi.IntType: st.integers(-(2**53), 2**53),
        mi.FloatType: st.floats(allow_nan=False, allow_infinity=False),
        mi.StrType: TEXT,
        mi.BytesType: st.binary(max_size=8),
        mi.AnyType: TEXT,
    }
    if type(kind) in simple:
        return simple[type(kind)]
    if isinstance(kind, mi.LiteralType):
        return st.sampled_from(kind.values)
    if isinstance(kind, mi.UnionType):
        return st.one_of([values_of(member) for member in kind.types])
    if isinstance(kind, mi.StructType):
        return structs(kind.cls)
    if isinstance(kind, mi.VarTupleType):
        return st.lists(values_of(kind.item_type), max_size=SMALL).map(tuple)
    if isinstance(kind, mi.TupleType):
        return st.tuples(*[values_of(item) for item in kind.item_types])
    if isinstance(kind, mi.ListType):
        return st.lists(values_of(kind.item_type), max_size=SMALL)
    if isinstance(kind, mi.DictType):
        return st.dictionaries(values_of(kind.key_type), values_of(kind.value_type), max_size=SMALL)
    raise TypeError(f"no strategy for {kind}")


def structs(cls: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Values of one struct, with all of its fields filled."""

    def build() -> st.SearchStrategy[Any]:
        info = mi.type_info(cls)
        assert isinstance(info, mi.StructType)
        return st.builds(cls, **{field.name: values_of(field.type) for field in info.fields})

    return st.deferred(build)
