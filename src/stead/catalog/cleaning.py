"""What can be wrong with a rule of the allow-list of files: above all that it names what makes the system, or people's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from stead.model.cleaning import CleaningRule

# Folders whose files make the system what it is, or are people's own: no rule may name them or anything in them.
SYSTEM: Final = ("bin", "boot", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "proc", "root", "sbin", "sys", "usr")
# Folders that may not be named as a whole.
WHOLE: Final = ("/", "/opt", "/run", "/srv", "/var", "/var/cache", "/var/lib", "/var/spool", "/mnt", "/media")


def problems(rule: CleaningRule) -> Iterator[tuple[str, str, str]]:
    """What is wrong with a rule: (its key, what, what to do). One that is switched off may be empty."""
    if not rule.enabled:
        return
    if not rule.folders or not rule.names:
        yield "folders", f"the rule {rule.category} names no folder or no name", "give `folders` and `names`"
    inside = rule.quarantine_in.rstrip("/") + "/"
    if rule.quarantine_in and not all((folder.rstrip("/") + "/").startswith(inside) for folder in rule.folders):
        what = f"the quarantine of {rule.category} is to be in {rule.quarantine_in}, which does not hold all of its folders"
        yield "quarantine_in", what, "name a folder that they are all in, or leave it out"
    for folder in rule.folders:
        first = folder.split("/")[1] if folder.startswith("/") else ""
        if not folder.startswith("/") or any(part in ("", ".", "..") for part in folder.rstrip("/").split("/")[1:]):
            yield "folders", f"{folder} is no absolute path in its plain form", "write it from / on, without . and .."
        elif first in SYSTEM or (folder.rstrip("/") or "/") in WHOLE:
            yield "folders", f"{folder} is of the system or of people: nothing there is cleaned", "name a folder of its own"
    for key, value in (("min_age_s", rule.min_age_s), ("quarantine_s", rule.quarantine_s), ("min_bytes", rule.min_bytes)):
        if value < 0:
            yield key, f"{key} of {rule.category} is {value:g}", "give 0 or more"
    if not 1 <= rule.depth <= 8:
        yield "depth", f"depth of {rule.category} is {rule.depth}", "give 1 to 8"
