"""A quantile sketch that merges exactly: p95 of an hour is made of the sketches of its five-minute snapshots.

After DDSketch (Masson, Rim, Lee 2019): a value falls in the bucket ceil(log(|x|) / log(gamma)) with
gamma = 1.01 / 0.99, so that a bucket's middle is within 1 % (`RELATIVE_ERROR`) of every value in it. Buckets of two
sketches add up, so that a merge equals the sketch of all values together, in any order.

Range: each sign holds 2,048 neighbouring buckets, which span a factor of 6e17 downwards from the largest magnitude
seen. What is smaller still is counted in the lowest bucket kept (its values read too large, never lost). Magnitudes
below 2.3e-308 count as zero. NaN and infinity are refused.
"""

from __future__ import annotations

import struct
import sys
from collections import Counter
from collections.abc import Iterable
from math import ceil, exp, inf, isfinite, log, nan
from typing import Final

from stead.stats import varint

RELATIVE_ERROR: Final = 0.01
MAX_BINS: Final = 2048  # of each sign
VERSION: Final = 1
_LOG_GAMMA: Final = log((1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR))
_PER_LOG: Final = 1 / _LOG_GAMMA
_MIDDLE: Final = log(1 - RELATIVE_ERROR)  # from a bucket's upper edge to its middle: 2 / (gamma + 1), as a logarithm
_TINY: Final = sys.float_info.min
_HUGE: Final = log(sys.float_info.max)
_ENDS: Final = struct.Struct("<dd")


class Sketch:
    """Counts by logarithmic bucket, with exact minimum and maximum."""

    __slots__ = ("_bins", "_key", "_last", "_negative", "_positive", "_zero", "count", "max", "min")

    def __init__(self) -> None:
        self._positive: dict[int, int] = {}
        self._negative: dict[int, int] = {}  # by magnitude
        self._zero: dict[int, int] = {}  # one bucket, a dict so that all three kinds add alike
        self.count = 0
        self.min = inf
        self.max = -inf
        self._last = nan  # the value added last, its dict and its key: metrics repeat themselves
        self._bins = self._zero
        self._key = 0

    def add(self, value: float, times: int = 1) -> None:
        """Count a value. Raises ValueError for NaN and infinity."""
        if value != self._last:
            self._seek(value)
        self._bins[self._key] += times
        self.count += times

    def extend(self, values: Iterable[float]) -> None:
        """Count many values; equal ones cost one look-up together. Raises ValueError before counting any if one is not finite."""
        counts = Counter(values)
        if not all(map(isfinite, counts)):
            raise ValueError("a sketch holds finite numbers only")
        for value, times in counts.items():
            self.add(value, times)

    def merge(self, other: Sketch) -> None:
        """Add another's counts: the result has the same buckets as one sketch of all values."""
        for mine, theirs in ((self._positive, other._positive), (self._negative, other._negative), (self._zero, other._zero)):
            for key, times in theirs.items():
                mine[key] = mine.get(key, 0) + times
            _collapse(mine)
        self.count += other.count
        self.min = min(self.min, other.min)
        self.max = max(self.max, other.max)
        self._last = nan

    def quantile(self, q: float) -> float | None:
        """The value at rank floor(q × (count - 1)), within 1 %; None when empty. Raises ValueError unless 0 ≤ q ≤ 1."""
        if not 0 <= q <= 1:
            raise ValueError(f"a quantile is between 0 and 1, not {q}")
        if not self.count:
            return None
        rank = q * (self.count - 1)
        if rank == 0:
            return self.min
        if rank == self.count - 1:
            return self.max
        return min(max(self._at(rank), self.min), self.max)

    def buckets(self) -> dict[tuple[int, int], int]:
        """(sign, bucket) → count: what two equal sketches share."""
        signed = ((1, self._positive), (-1, self._negative), (0, self._zero))
        return {(sign, key): times for sign, bins in signed for key, times in bins.items()}

    def encode(self) -> bytes:
        """Compact bytes: about two a bucket, and 17."""
        out = bytearray((VERSION,))
        if not self.count:
            return bytes(out)
        out += _ENDS.pack(self.min, self.max)
        varint.put(out, sum(self._zero.values()))
        for bins in (self._positive, self._negative):
            varint.put(out, len(bins))
            before = 0
            for key in sorted(bins):
                varint.put_signed(out, key - before)
                varint.put(out, bins[key])
                before = key
        return bytes(out)

    @classmethod
    def decode(cls, data: bytes) -> Sketch:
        """The sketch that was encoded. Raises ValueError for what is not one."""
        if not data or data[0] != VERSION:
            raise ValueError(f"a sketch of version {data[0] if data else 'none'}, not {VERSION}")
        sketch = cls()
        if len(data) == 1:
            return sketch
        if len(data) < 1 + _ENDS.size:
            raise ValueError("the sketch is cut short")
        sketch.min, sketch.max = _ENDS.unpack_from(data, 1)
        zeros, at = varint.take(data, 1 + _ENDS.size)
        if zeros:
            sketch._zero[0] = zeros
        for bins in (sketch._positive, sketch._negative):
            at = _take_bins(data, at, bins)
        sketch.count = zeros + sum(sketch._positive.values()) + sum(sketch._negative.values())
        return sketch

    def _at(self, rank: float) -> float:
        passed = 0
        for key in sorted(self._negative, reverse=True):
            passed += self._negative[key]
            if passed > rank:
                return -_middle(key)
        passed += self._zero.get(0, 0)
        if passed > rank:
            return 0.0
        for key in sorted(self._positive):
            passed += self._positive[key]
            if passed > rank:
                return _middle(key)
        return self.max

    def _seek(self, value: float) -> None:
        """Point at the bucket of a value, making it if need be."""
        size = abs(value)
        if not size < inf:
            raise ValueError("a sketch holds finite numbers only")
        if size < _TINY:
            bins, key = self._zero, 0
        else:
            bins, key = self._positive if value > 0 else self._negative, ceil(log(size) * _PER_LOG)
        if key not in bins:
            bins[key] = 0
            if len(bins) > 1 and bins is not self._zero:
                key = max(key, _collapse(bins))
        self._last, self._bins, self._key = value, bins, key
        if value < self.min:
            self.min = value
        if value > self.max:
            self.max = value


def _collapse(bins: dict[int, int]) -> int:
    """Count everything below the window of 2,048 buckets under the highest one in the lowest of the window; gives that floor."""
    if not bins:
        return 0
    floor = max(bins) - MAX_BINS + 1
    low = [key for key in bins if key < floor]
    if low:
        bins[floor] = bins.get(floor, 0) + sum(bins.pop(key) for key in low)
    return floor


def _middle(key: int) -> float:
    """The value in a bucket that is within 1 % of both its ends."""
    return exp(min(key * _LOG_GAMMA + _MIDDLE, _HUGE))


def _take_bins(data: bytes, at: int, bins: dict[int, int]) -> int:
    count, at = varint.take(data, at)
    key = 0
    for _ in range(count):
        step, at = varint.take_signed(data, at)
        key += step
        bins[key], at = varint.take(data, at)
    return at
