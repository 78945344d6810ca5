"""The quantile sketch: its error bound on adversarial and real data, exact merges, and its encoding."""

from __future__ import annotations

import math
import os
import random
from pathlib import Path

import pytest
from benchmarks.npz import arrays
from ddsketch import DDSketch
from hypothesis import example, given
from hypothesis import strategies as st

from stead.stats.sketch import MAX_BINS, RELATIVE_ERROR, Sketch

QUANTILES = (0.0, 0.01, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999, 1.0)
ROUNDING = 1e-9  # of the logarithm, beside the sketch's own 1 %
# Within a factor of 6e17 of each other: nothing collapses.
magnitudes = st.floats(min_value=1e-6, max_value=1e11, allow_nan=False)
numbers = st.one_of(magnitudes, magnitudes.map(lambda x: -x), st.just(0.0))
lists = st.lists(numbers, min_size=1, max_size=300)


def sketch_of(values: list[float]) -> Sketch:
    sketch = Sketch()
    for value in values:
        sketch.add(value)
    return sketch


def exact(values: list[float], q: float) -> float:
    return sorted(values)[math.floor(q * (len(values) - 1))]


def assert_within_bound(values: list[float], sketch: Sketch) -> None:
    for q in QUANTILES:
        true = exact(values, q)
        assert sketch.quantile(q) == pytest.approx(true, rel=RELATIVE_ERROR + ROUNDING, abs=0.0), q


def adversarial() -> dict[str, list[float]]:
    """Shapes that break sketches: heavy tails, bucket edges, ties, steps, both signs, long constant runs."""
    dice = random.Random(20)
    gamma = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
    return {
        "pareto": [dice.paretovariate(0.3) for _ in range(5000)],
        "lognormal": [dice.lognormvariate(0, 5) for _ in range(5000)],
        "edges": [gamma**k * (1 + e) for k in range(-300, 300) for e in (-1e-15, 0.0, 1e-15)],
        "ties": [1.0] * 950 + [1e9] * 50,
        "one at the end": [0.0] * 999 + [1e12],
        "both signs": [dice.gauss(0, 1e6) for _ in range(5000)] + [0.0] * 100,
        "sorted": [float(n) for n in range(1, 5000)],
        "sawtooth": [float(n % 7) * 10 ** (n % 9) for n in range(5000)],
        "nearly equal": [100 + 1e-9 * n for n in range(1000)],
    }


@pytest.mark.parametrize("name", adversarial())
def test_quantiles_within_one_percent_on_adversarial_data(name: str) -> None:
    values = adversarial()[name]
    assert_within_bound(values, sketch_of(values))


@given(lists)
@example([5e-324, 1.0])
@example([-0.0, 0.0])
def test_quantiles_within_one_percent(values: list[float]) -> None:
    sketch = sketch_of(values)
    assert sketch.count == len(values)
    for q in QUANTILES:
        assert sketch.quantile(q) == pytest.approx(exact(values, q), rel=RELATIVE_ERROR + ROUNDING, abs=1e-300)


@given(lists)
def test_agrees_with_ddsketch(values: list[float]) -> None:
    """An independent implementation with the same bound: both are within 1 % of the truth, so within 2 % of each other."""
    oracle = DDSketch(RELATIVE_ERROR)
    for value in values:
        oracle.add(value)
    sketch = sketch_of(values)
    for q in QUANTILES[1:-1]:
        assert sketch.quantile(q) == pytest.approx(oracle.get_quantile_value(q), rel=2.03 * RELATIVE_ERROR, abs=1e-300)


@given(lists, lists)
def test_merge_has_the_buckets_of_all_values(left: list[float], right: list[float]) -> None:
    merged = sketch_of(left)
    merged.merge(sketch_of(right))
    whole = sketch_of(left + right)
    assert merged.buckets() == whole.buckets()
    assert (merged.count, merged.min, merged.max) == (whole.count, whole.min, whole.max)
    assert merged.encode() == whole.encode()


wide = st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=60)  # up to 1e308: these do collapse


@given(wide, wide, wide)
def test_merge_is_associative_and_commutative_even_where_buckets_collapse(a: list[float], b: list[float], c: list[float]) -> None:
    left = sketch_of(a)
    left.merge(sketch_of(b))
    left.merge(sketch_of(c))
    right = sketch_of(c)
    right.merge(sketch_of(b))
    right.merge(sketch_of(a))
    assert left.buckets() == right.buckets() == sketch_of([*b, *a, *c]).buckets()
    assert sum(left.buckets().values()) == len(a) + len(b) + len(c)


@given(wide)
def test_encoding_round_trip(values: list[float]) -> None:
    sketch = sketch_of(values)
    again = Sketch.decode(sketch.encode())
    assert again.buckets() == sketch.buckets()
    assert (again.count, again.min, again.max) == (sketch.count, sketch.min, sketch.max)
    assert [again.quantile(q) for q in QUANTILES] == [sketch.quantile(q) for q in QUANTILES]


@given(wide)
def test_extend_is_add(values: list[float]) -> None:
    sketch = Sketch()
    sketch.extend(values)
    assert sketch.buckets() == sketch_of(values).buckets()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_refuses_what_is_not_a_finite_number(bad: float) -> None:
    sketch = sketch_of([1.0])
    with pytest.raises(ValueError, match="finite"):
        sketch.add(bad)
    with pytest.raises(ValueError, match="finite"):
        sketch.extend([2.0, bad])
    with pytest.raises(ValueError, match="finite"):
        Sketch().add(bad)
    assert sketch.count == 1
    assert sketch.quantile(0.5) == 1.0


def test_memory_is_bounded_and_large_values_keep_their_bound() -> None:
    """Over 616 orders of magnitude only the top 17 keep their buckets; the rest is counted in the lowest one kept."""
    values = [sign * 10.0**power for power in range(-307, 308) for sign in (1, -1)]
    random.Random(3).shuffle(values)
    sketch = sketch_of(values)
    kept = sketch.buckets()
    for sign in (1, -1):
        keys = [key for s, key in kept if s == sign]
        assert max(keys) - min(keys) < MAX_BINS
    assert sketch.count == sum(kept.values()) == len(values)
    assert sketch.quantile(0.99) == pytest.approx(exact(values, 0.99), rel=RELATIVE_ERROR + ROUNDING)


def test_the_largest_float_does_not_overflow() -> None:
    sketch = sketch_of([1.7976931348623157e308] * 3)
    assert sketch.quantile(0.5) == 1.7976931348623157e308


def test_empty_and_wrong_arguments() -> None:
    assert Sketch().quantile(0.5) is None
    assert Sketch.decode(Sketch().encode()).count == 0
    for q in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="quantile"):
            sketch_of([1.0]).quantile(q)


@pytest.mark.parametrize("cut", [0, 1, 5, -1, -2])
def test_damaged_bytes_are_refused(cut: int) -> None:
    data = sketch_of([float(n) for n in range(50)]).encode()
    broken = b"\x63" + data[1:] if cut == 1 else data[:cut]
    with pytest.raises(ValueError, match=r"version|short|ends"):
        Sketch.decode(broken)


def test_encoding_is_compact() -> None:
    dice = random.Random(4)
    assert len(sketch_of([dice.gauss(50, 10) for _ in range(300)]).encode()) <= 17 + 2.2 * 140


@pytest.mark.parametrize("column", range(0, 93, 7))
def test_p95_within_one_percent_on_real_data(column: int) -> None:
    where = os.environ.get("STEAD_DATA", "")
    path = Path(where) / "exathlon_hosts_1s.npz"
    if not where or not path.exists():
        pytest.skip("real host data is not here: set STEAD_DATA to the folder with exathlon_hosts_1s.npz")
    name, rows, columns, values = next(arrays(path))
    series = [value for value in values[column : rows * columns : columns] if math.isfinite(value)]
    assert len(series) > 1000, name
    assert_within_bound(series, sketch_of(series))
