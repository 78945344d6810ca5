"""Why a log is not to be believed, each with its name, where it was seen and what to do.

`ledger.unsigned` no trusted signature · `ledger.truncated` entries missing at the end · `ledger.rolled-back` somebody holds a
later checkpoint · `ledger.forked` two trees signed for one size · `ledger.rewritten` an earlier checkpoint is not its
beginning · `ledger.altered` a leaf, column, blob or tile differs from what the tree says.
"""

from __future__ import annotations

from stead.model.errors import EXIT_USAGE, SteadError

_KEEP = "keep a copy of this state as it is, for it is evidence"


def unsigned(why: str, where: str, fix: str = "") -> SteadError:
    """No key that is trusted here signed this checkpoint."""
    fix = fix or "believe nothing of it; compare the key with `stead ledger key` on that host, or with one that was published"
    return SteadError(f"unsigned: {why}", where, fix, code="ledger.unsigned")


def signed_by_earlier(key: str, where: str) -> SteadError:
    """Only later keys of the log are trusted here than the one that signed this checkpoint."""
    why = f"this checkpoint was signed by {key}, by the ledger's own word an earlier key of it, and that one is not trusted here"
    fix = "if you have that key from elsewhere, give it too (--key, or a `log` line of the policy); else believe nothing of it"
    return SteadError(f"unsigned: {why}", where, fix, code="ledger.unsigned")


def truncated(size: int, found: int, where: str, fix: str = "") -> SteadError:
    """The checkpoint speaks for more entries than there are."""
    what = f"truncated: the checkpoint was signed for {size} entries, and only {found} are there: the newest are missing"
    fix = fix or f"{_KEEP}; bring the missing entries back from an export or a backup"
    return SteadError(what, where, fix, code="ledger.truncated")


def rolled_back(kept: str, kept_size: int, size: int, where: str) -> SteadError:
    """Somebody holds a checkpoint that is ahead of the log."""
    what = f"rolled back: {kept} was signed for {kept_size} entries, and this ledger has only {size}"
    fix = f"{_KEEP}; bring the newer state back, or begin a new log that says so"
    return SteadError(what, where, fix, code="ledger.rolled-back")


def forked(kept: str, size: int, where: str) -> SteadError:
    """Two trees of one size were signed by one log."""
    what = f"forked: two different ledgers of {size} entries were signed: this one, and that of {kept}"
    fix = "keep both checkpoints: together they prove it; trust nothing after the last one that both have in common"
    return SteadError(what, where, fix, code="ledger.forked")


def rewritten(kept: str, size: int, where: str) -> SteadError:
    """The log does not begin with the entries that an earlier checkpoint was signed for."""
    what = f"rewritten: the first {size} entries are not those that {kept} was signed for"
    fix = f"{_KEEP}; what was there before is in older exports and backups"
    return SteadError(what, where, fix, code="ledger.rewritten")


def altered(what: str, where: str, fix: str = "") -> SteadError:
    """A leaf, a column, a blob or a tile is not what the tree says."""
    fix = fix or f"{_KEEP}; compare with an export or a backup, and find out who could write there"
    return SteadError(f"altered: {what}", where, fix, code="ledger.altered")


def foreign(kept: str, origin: str, own: str) -> SteadError:
    """A checkpoint of another log was given to compare with."""
    what = f"{kept} is a checkpoint of {origin!r}, and this ledger is {own!r}"
    return SteadError(what, "", "give a checkpoint of this log", code="ledger.other-log", exit_code=EXIT_USAGE)


def malformed(what: str, where: str) -> SteadError:
    """Something is not even in its format."""
    return altered(f"it can't be read: {what}", where)
