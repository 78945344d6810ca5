"""What the style tests look at: the files of this repository, without what tools and builds leave in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
MADE = frozenset((".git", ".venv", "__pycache__", "build", "dist", "results", "node_modules"))
CACHES = "_cache"
TEXT = frozenset((".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".json", ".service", ".html", ".js", ".css", ".sh", ""))


def files(under: str = "") -> Iterator[Path]:
    """Every file that belongs to the repository, below a folder of it."""
    for folder, inside, names in os.walk(ROOT / under):
        inside[:] = [
            name for name in inside if name not in MADE and not name.endswith((CACHES, ".egg-info")) and name != ".hypothesis"
        ]
        yield from (Path(folder, name) for name in sorted(names))


def sources(*folders: str) -> list[Path]:
    """The Python files below these folders."""
    return [path for folder in folders for path in files(folder) if path.suffix == ".py"]


def texts() -> Iterator[tuple[Path, str]]:
    """Every readable file with what it says."""
    for path in files():
        if path.suffix in TEXT and not path.name.startswith(".coverage"):
            yield path, path.read_text(encoding="utf-8")


def short(path: Path) -> str:
    """The path as a reader of the repository knows it."""
    return path.relative_to(ROOT).as_posix()
