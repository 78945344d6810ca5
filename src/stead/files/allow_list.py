"""The allow-list: which rule, if any, speaks of a path, and what of a file forbids to touch it.

What is not named is not touched.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from typing import Final

from stead.files.paths import parts
from stead.model.cleaning import CleaningRule

READ_ONLY: Final = "it is read-only for stead: give it to the unit as ReadWritePaths (docs/how-to/disk.md), or mount it so"


class AllowList:
    """The rules in force, with the uids of their owners."""

    def __init__(self, rules: Iterable[CleaningRule] = ()) -> None:
        self._every = tuple(rules)
        self.rules = tuple(rule for rule in self._every if rule.enabled)
        self._owners = {rule.category: uids(rule.owners) for rule in self._every}

    def rule_for(self, path: bytes, do: str) -> CleaningRule | None:
        """The first rule that names this path and says that this may be done."""
        return next((rule for rule in self.rules if rule.do == do and names(rule, path)), None)

    def owners_on(self, path: bytes) -> Collection[int]:
        """Whose folders may be on the way to it: also by rules that are switched off, for what those took is put back still."""
        return frozenset(uids(())).union(*(self._owners[rule.category] for rule in self._every if names(rule, path)))

    def owners(self, rule: CleaningRule) -> Collection[int]:
        """Whose folders may be on the way."""
        return self._owners[rule.category]


def names(rule: CleaningRule, path: bytes) -> bool:
    """Does a rule name this path?"""
    text = path.decode("utf-8", "surrogateescape")
    folder = next((one for one in rule.folders if text.startswith(one.rstrip("/") + "/")), None)
    if folder is None or len(parts(path)) - len(parts(os.fsencode(folder.rstrip("/")))) > rule.depth:
        return False
    name = text.rpartition("/")[2]
    return any(fnmatchcase(name, one) for one in rule.names) and not any(fnmatchcase(text, one) for one in rule.never)


def objection(rule: CleaningRule, file: os.stat_result, now_s: float) -> str:
    """Why this file must not be touched under this rule now; empty when it may be. Who has it open is another question."""
    wrong = nature(file)
    if wrong:
        return wrong
    if not rule.min_bytes <= file.st_size <= rule.max_bytes:
        return f"it has {file.st_size} bytes, and the rule {rule.category} is for {rule.min_bytes} to {rule.max_bytes}"
    age_s = now_s - max(file.st_mtime, file.st_ctime, file.st_atime if rule.unread else 0.0)
    if 0.0 < rule.min_age_s > age_s:
        read = "read or changed" if rule.unread else "changed"
        return f"it was {read} {age_s / 3600:.1f} h ago, and the rule {rule.category} is for {rule.min_age_s / 3600:.1f} h"
    return ""


def nature(file: os.stat_result) -> str:
    """Why a thing like this is never touched; empty for a regular file with one name."""
    if stat.S_ISLNK(file.st_mode):
        return "it is a symbolic link"
    if not stat.S_ISREG(file.st_mode):
        return "it is no regular file"
    if file.st_nlink != 1:
        return f"it has {file.st_nlink} names (hard links): nothing would become free, and the others would change with it"
    return ""


def uids(owners: Iterable[str]) -> frozenset[int]:
    """The uids of users by name, those that this system has; root's and this process's own are always among them."""
    import pwd

    found = {0, os.geteuid()}
    for owner in owners:
        try:
            found.add(pwd.getpwnam(owner).pw_uid)
        except KeyError:
            continue
    return frozenset(found)
