"""Read the numeric arrays of an .npz file without numpy: float32 or float64, in C order."""

from __future__ import annotations

import ast
import struct
import zipfile
from array import array
from collections.abc import Iterator
from pathlib import Path

CODES = {"<f4": "f", "<f8": "d"}


def arrays(path: str | Path) -> Iterator[tuple[str, int, int, array[float]]]:
    """Each two-dimensional array of floats: its name, rows, columns, and values row by row. Others are passed over."""
    with zipfile.ZipFile(path) as archive:
        for entry in sorted(archive.namelist()):
            data = archive.read(entry)
            wide = data[6] > 1  # version 2 of the format has a longer length field
            start = 12 if wide else 10
            size = struct.unpack_from("<I" if wide else "<H", data, 8)[0]
            header = ast.literal_eval(data[start : start + size].decode("latin-1"))
            if header["descr"] not in CODES or len(header["shape"]) != 2 or header["fortran_order"]:
                continue
            values = array(CODES[header["descr"]])
            values.frombytes(data[start + size :])
            yield entry.removesuffix(".npy"), *header["shape"], values
