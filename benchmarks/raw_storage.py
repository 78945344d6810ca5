"""Raw values on disk: bytes a sample and CPU-seconds a million, on recorded hosts.

    python -m benchmarks.raw_storage FOLDER_OR_FILE [--runs N]

The data is `exathlon_hosts_1s.npz` (Spark hosts at 1 s, 93 columns, Apache-2.0; see docs). Each run is cut into blocks
of five minutes, as the agent stores them; every block is decoded again and compared bit for bit. The figure that stead
holds is 1.5 bytes a sample. Without a path it says what it skips.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Figure, publish
from benchmarks.npz import arrays
from stead.stats.blocks import Block, Column, decode, encode

ROWS = 300
FIGURE = 1.5
FILE = "exathlon_hosts_1s.npz"


def blocks(path: Path, runs: int) -> Iterator[Block]:
    """Five-minute blocks of one host each; a value that was not sampled (NaN) is left out of its column."""
    for number, (_, rows, columns, values) in enumerate(arrays(path)):
        if number == runs:
            return
        for start in range(0, rows - ROWS + 1, ROWS):
            block = Block(range(start * 1000, (start + ROWS) * 1000, 1000))
            for column in range(columns):
                series = values[start * columns + column : (start + ROWS) * columns : columns]
                known = [(row, value) for row, value in enumerate(series) if value == value]
                block.columns[column + 1] = Column([row for row, _ in known], [value for _, value in known])
            yield block


def measure(path: Path, runs: int) -> tuple[int, int, float, float]:
    """Samples, bytes, and CPU seconds to encode and to decode."""
    samples = stored = 0
    packing = unpacking = 0.0
    for block in blocks(path, runs):
        began = time.process_time()
        data = encode(block)
        packing += time.process_time() - began
        began = time.process_time()
        again = decode(data)
        unpacking += time.process_time() - began
        for key, column in block.columns.items():
            if bytes(column.values) != bytes(again.columns[key].values) or column.rows != again.columns[key].rows:
                raise SystemExit(f"column {key} came back changed")
        samples += sum(len(column.values) for column in block.columns.values())
        stored += len(data)
    return samples, stored, packing, unpacking


def main() -> int:
    """Print the figures; 1 when the one that stead holds is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", nargs="?", help=f"folder with {FILE}, or the file")
    parser.add_argument("--runs", type=int, default=44, help="how many of the recorded runs to read")
    options = parser.parse_args()
    if options.data is None:
        print(f"skipped: raw storage needs recorded hosts; give the folder with {FILE}")
        return 0
    path = Path(options.data)
    path = path / FILE if path.is_dir() else path
    samples, stored, packing, unpacking = measure(path, options.runs)
    return publish(
        "raw_storage",
        f"Raw values on disk, {samples:,} samples of {FILE}",
        [
            Figure("size", stored / samples, "B a sample", FIGURE),
            Figure("encode", packing / samples * 1e6, "CPU-s a million samples"),
            Figure("decode", unpacking / samples * 1e6, "CPU-s a million samples"),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
