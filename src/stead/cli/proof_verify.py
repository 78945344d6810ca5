"""`stead proof verify`: proofs checked offline, from files alone. It asks no agent and reads no state."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import click
import msgspec

from stead.cli.leaf_words import UUID, leaf_words, read_leaf
from stead.cli.table import paragraph, printable, styled
from stead.cli.verb import Session, examples, options
from stead.cli.words import plural
from stead.ledger import bounded
from stead.model.errors import EXIT_FAILURE, EXIT_OK, EXIT_USAGE, SteadError
from stead.tlog.keys import VerifierKey, parse_vkey
from stead.tlog.policy import LogLine, TrustPolicy, parse_policy
from stead.tlog.proof import Proven, parse_proof, prove
from stead.tlog.strict import Malformed

LEAF, PROOF, POLICY = ".json", ".tlog-proof", "policy.tlog-policy"
LEAF_MAX_BYTES: Final = 65_535
FILE_MAX_BYTES: Final = 2_000_000
ID_MIN: Final = 8  # characters of an id that are looked for in leaves
VERIFY = examples(
    ("stead proof verify", "every proof in this directory"),
    ("stead proof verify 0192f0c1-7b3e", "those of an entry, run or finding; files may be named too"),
    ("stead proof verify --key VKEY", "with a key that you have from elsewhere"),
)
HEARSAY = (
    "The policy lies with the proofs, so this shows no more than that both agree. Compare the log's key with one that you have"
    " from elsewhere: `stead ledger key` on that host, or a published one. `--key VKEY` then pins it."
)

ANEW = (
    "A file that was changed on the way can be had again: `stead proof ID` on that host. Copy it byte for byte: another line end"
    " is a change too."
)


class Checked(msgspec.Struct, frozen=True):
    """One proof, and what came of it. Times are POSIX seconds."""

    proof: str
    ok: bool
    problem: str = ""
    id: str = ""
    says: str = ""
    origin: str = ""
    entry: int = 0
    size: int = 0
    signed_by: tuple[str, ...] = ()
    witnesses: tuple[tuple[str, int], ...] = ()
    pinned: bool = False


@click.command(name="verify", epilog=VERIFY, short_help="Check proofs, offline.")
@click.argument("files", nargs=-1, metavar="[FILE|ID]...")
@click.option("--policy", type=click.Path(dir_okay=False, path_type=Path), help=f"Whom to trust. Default: {POLICY} beside it.")
@click.option("--key", "keys", multiple=True, metavar="VKEY", help="Trust only this key of the log; may be given again.")
@click.option("--dir", "folder", default=".", type=click.Path(file_okay=False, path_type=Path), help="Where the proofs are.")
@options
def verify(session: Session, files: Sequence[str], policy: Path | None, keys: Sequence[str], folder: Path) -> int:
    """Check proofs offline: leaf, place in the log, signatures, witnesses. Exit code 1 if one fails."""
    pins = [pinned(text) for text in keys]
    checked = [check(path, policy, pins) for path in _chosen(files, folder)]
    session.show(checked, lambda: _lines(checked, hearsay=not pins and policy is None))
    return EXIT_OK if all(one.ok for one in checked) else EXIT_FAILURE


def check(path: Path, policy: Path | None, pins: Sequence[VerifierKey]) -> Checked:
    """Check one proof file with the leaf beside it, and a policy. What is wrong is said in the result, never raised."""
    try:
        leaf = _read(_leaf_of(path), LEAF_MAX_BYTES, "leaf")
        proof = parse_proof(_read(path, FILE_MAX_BYTES, "proof"))
        proven = prove(leaf, proof, _policy(policy or path.with_name(POLICY), pins))
        return _held(path, leaf, proven, pinned=bool(pins))
    except Malformed as error:
        return Checked(path.name, False, str(error), path.name.removesuffix(PROOF))


def _held(path: Path, leaf: bytes, proven: Proven, *, pinned: bool) -> Checked:
    """A proof that holds; the file's name must still not promise another entry."""
    read = read_leaf(leaf)
    stem, own = path.name.removesuffix(PROOF), read.id if read else ""
    if UUID.fullmatch(stem) and stem != own:
        raise Malformed(f"the file is named after {stem}, and it proves {own or 'no entry of stead'}")
    keys = tuple(key.text for key in proven.logs)
    place = (proven.origin, proven.index + 1, proven.size)
    return Checked(path.name, True, "", own, leaf_words(leaf), *place, keys, proven.witnesses, pinned)


def _policy(path: Path, pins: Sequence[VerifierKey]) -> TrustPolicy:
    """Whose signatures count: the pinned keys in place of the policy's logs; pins alone need no policy file."""
    if pins and not path.exists():
        return TrustPolicy(tuple(LogLine(key) for key in pins), (), (), "none")
    policy = parse_policy(_read(path, FILE_MAX_BYTES, "policy"))
    return policy._replace(logs=tuple(LogLine(key) for key in pins)) if pins else policy


def pinned(text: str) -> VerifierKey:
    """Read a key that was given by hand. SteadError when it is none."""
    try:
        return parse_vkey(text)
    except Malformed as error:
        fix = "copy it whole from `stead ledger key`, between quotes"
        raise SteadError(str(error), "--key", fix, code="proof.key", exit_code=EXIT_USAGE) from None


def _read(path: Path, limit: int, what: str) -> bytes:
    try:
        return bounded.read(path, limit)
    except FileNotFoundError:
        fix = "; name yours with --policy, or the log's key with --key" if what == "policy" else ""
        raise Malformed(f"its {what}, {path.name}, is not there{fix}") from None
    except OSError as error:
        raise Malformed(f"its {what}, {path.name}, can't be read: {error.strerror}") from None


def _chosen(files: Sequence[str], folder: Path) -> list[Path]:
    """The proof files meant: those named, or all of a folder. SteadError when there are none."""
    there = sorted(folder.glob(f"*{PROOF}"))
    if not files:
        if not there:
            what = f"there is no proof in {folder.resolve()}"
            raise SteadError(what, "", "`stead proof ID` writes one", code="proof.missing", exit_code=EXIT_USAGE)
        return there
    return [path for word in files for path in _meant(word, there)]


def _meant(word: str, there: Sequence[Path]) -> Iterator[Path]:
    path = Path(word)
    if path.name.endswith(PROOF) or path.name.endswith(LEAF):
        yield path.with_name(path.name.removesuffix(LEAF).removesuffix(PROOF) + PROOF)
        return
    stems = {one: one.name.removesuffix(PROOF) for one in there}
    found = [one for one, stem in stems.items() if stem.startswith(word) or stem.endswith(word)] if word else []
    found = found or [one for one in there if _speaks_of(one, word)]
    if not found:
        what = f"no proof here is of {word!r}, or of an entry that speaks of it"
        raise SteadError(what, "", "name its file", code="proof.missing", exit_code=EXIT_USAGE)
    yield from found


def _speaks_of(path: Path, word: str) -> bool:
    """Does its leaf name the run or finding of this id, or of one that begins so? Only to choose by: nothing is proven yet."""
    try:
        return len(word) >= ID_MIN and f'"{word}'.encode() in _read(_leaf_of(path), LEAF_MAX_BYTES, "leaf")
    except (Malformed, UnicodeEncodeError):
        return False


def _leaf_of(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(PROOF) + LEAF)


def key_name(vkey: str) -> str:
    """A key by its name and id, without the key itself: enough to tell keys apart, and to compare by eye."""
    return "+".join(vkey.split("+", 2)[:2])


def _lines(checked: Sequence[Checked], *, hearsay: bool) -> list[str]:
    lines: list[str] = []
    for one in checked:
        lines.append(_head(one))
        lines += [f"      {line}" for detail in _details(one) for line in paragraph(printable(detail), 6)]
    failed = sum(not one.ok for one in checked)
    lines.append(f"{plural(len(checked), 'proof')}: {f'{failed} not proven' if failed else 'all proven'}")
    if failed:
        lines += paragraph(ANEW)
    return [*lines, *paragraph(HEARSAY)] if hearsay and failed < len(checked) else lines


def _head(one: Checked) -> str:
    name = printable(one.proof.removesuffix(PROOF))
    return f"{styled('OK', 'good')}    {name}" if one.ok else f"{styled('FAIL', 'critical')}  {name}"


def _details(one: Checked) -> Iterator[str]:
    if not one.ok:
        yield one.problem
        return
    yield one.says
    yield f"entry {one.entry} of {one.size} in {one.origin}"
    yield f"signed by {', '.join(map(key_name, one.signed_by))}{' (pinned)' if one.pinned else ''}"
    for name, at_s in one.witnesses:
        yield f"cosigned by {name} at {_utc(at_s)}"


def _utc(at_s: int) -> str:
    """A witness's time; it may claim any number up to 2^63 - 1."""
    try:
        return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(at_s))} UTC"
    except (OverflowError, OSError, ValueError):
        return f"{at_s} s after 1970, which is no date"
