"""The allow-list: which rule, if any, speaks of a path, and what of a file forbids to touch it.

What is not named is not touched.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from typing import Final

from stead.files.mounts import Readings
from stead.files.paths import parts
from stead.files.places import NAME
from stead.model.cleaning import CleaningRule

NO_RULE: Final = "no rule of the allow-list names it"


class AllowList:
    """The rules in force, with the uids of their owners."""

    def __init__(self, rules: Iterable[CleaningRule] = ()) -> None:
        self._every = tuple(rules)
        self.rules = tuple(rule for rule in self._every if rule.enabled)
        self._owners = {rule.category: uids(rule.owners) for rule in self._every}

    def rule_for(self, path: bytes, do: str) -> CleaningRule | None:
        """The first rule that names this path and says that this may be done."""
        return next((rule for rule in self.rules if rule.do == do and names(rule, path)), None)

    def anchor_on(self, path: bytes) -> bytes | None:
        """The folder that this path's quarantine is in, by the first rule that names it, one that is switched off too.

        None: no rule does.
        """
        rule = next((rule for rule in (*self.rules, *self._every) if names(rule, path)), None)
        return None if rule is None else os.fsencode(rule.quarantine_in or folder_of(rule, path))

    def quarantine_s(self, category: str) -> float:
        """How long a rule's files stay in quarantine; of a rule that is gone: a week."""
        return next((rule.quarantine_s for rule in self._every if rule.category == category), CleaningRule("").quarantine_s)

    def owners(self, rule: CleaningRule) -> Collection[int]:
        """Whose folders may be on the way."""
        return self._owners[rule.category]


def names(rule: CleaningRule, path: bytes) -> bool:
    """Does a rule name this path?"""
    text, folder = path.decode("utf-8", "surrogateescape"), folder_of(rule, path)
    if not folder or len(parts(path)) - len(parts(os.fsencode(folder.rstrip("/")))) > rule.depth or NAME in parts(path):
        return False
    name = text.rpartition("/")[2]
    return any(fnmatchcase(name, one) for one in rule.names) and not any(fnmatchcase(text, one) for one in rule.never)


def folder_of(rule: CleaningRule, path: bytes) -> str:
    """The rule's folder that a path is in; empty: none."""
    text = path.decode("utf-8", "surrogateescape")
    return next((one for one in rule.folders if text.startswith(one.rstrip("/") + "/")), "")


def objection(rule: CleaningRule, file: os.stat_result, now_s: float, told: Readings) -> str:
    """Why this file must not be touched under this rule now; empty when it may be. Who has it open is another question.

    `told`: what its time of access is worth, for a rule that asks when it was last read.
    """
    wrong = nature(file) or (told.unknown if rule.unread else "")
    if wrong:
        return wrong
    if not rule.min_bytes <= file.st_size <= rule.max_bytes:
        return f"it has {file.st_size} bytes, and the rule {rule.category} is for {rule.min_bytes} to {rule.max_bytes}"
    age_s = now_s - (told.last_s(file) if rule.unread else max(file.st_mtime, file.st_ctime))
    if 0.0 < rule.min_age_s > age_s:
        told_of = "may have been read or changed" if rule.unread else "was changed"
        return (
            f"it {told_of} {max(age_s, 0.0) / 3600:.1f} h ago, and the rule {rule.category} is for {rule.min_age_s / 3600:.1f} h"
        )
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
