"""What may be cleaned on a disk: an allow-list of rules, as the catalogue gives it (`cleaning:` in `stead/catalog/disk.yaml`).

A file is touched only where a rule names its folder, its name, its age and its size. What no rule names stays.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Purpose = Literal["quarantine", "compress", "purge"]
DAY_S = 86_400.0


class CleaningRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One category of files, and what may be done with them: moved into quarantine and later removed, or compressed in place."""

    category: str
    title: str = ""
    do: Literal["quarantine", "compress"] = "quarantine"
    folders: tuple[str, ...] = ()  # absolute; those that are not there are passed over
    names: tuple[str, ...] = ()  # shell globs over a file's name
    never: tuple[str, ...] = ()  # shell globs over its whole path, stronger than `names`
    depth: int = 1  # 1: only files that lie in a folder itself
    min_age_s: float = 7 * DAY_S  # since it was written, moved or had its attributes changed
    unread: bool = False  # its last reading counts too; where that can't be known, the rule names no file
    min_bytes: int = 1
    max_bytes: int = 1 << 40
    quarantine_s: float = 7 * DAY_S  # this long in quarantine before it may be removed
    quarantine_in: str = ""  # the folder that `.stead-quarantine` is in; empty: the one of `folders` that the file is in
    owners: tuple[str, ...] = ("root",)  # users whose folders may be looked into; stead's own user always
    enabled: bool = True


class Quarantined(msgspec.Struct, frozen=True):
    """One file in quarantine. `path` is where it was, as a target names it."""

    path: str
    category: str
    bytes: int
    at_ms: int
    due_ms: int  # from then on it may be removed for good
    place: str  # the file in which it is kept
    run: str = ""  # the run that moved it; empty: not known


class Cleanable(msgspec.Struct, frozen=True):
    """What one rule would let go on one mount."""

    category: str
    title: str
    do: Literal["quarantine", "compress"]
    mount: str
    files: int
    bytes: int


class ListFiles(msgspec.Struct, frozen=True, tag="files"):
    """→ FileList."""


class FileList(msgspec.Struct, frozen=True, tag="files"):
    """Answer to ListFiles: what the allow-list would let go, and what is in quarantine."""

    cleanable: tuple[Cleanable, ...]
    quarantined: tuple[Quarantined, ...]
    refused: dict[str, str] = {}  # folder → why nothing of it is cleaned, or put back, now
