"""Trust policies (C2SP tlog-policy, draft of 2026): which logs, which witnesses, and how many of them must have cosigned.

Two readings go beyond the text, because published policies need them. A "#" that follows white space begins a comment
anywhere in a line. And a public key that several witness lines name is accepted, but counts once: only its first line can
ever be satisfied, so no quorum is reached by counting one cosigner twice (the draft forbids such lines; a policy that needs
the second line to count is one that nothing satisfies).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from stead.tlog.checkpoint import Checkpoint, parse_checkpoint
from stead.tlog.keys import COSIGNATURE, ED25519, VerifierKey, parse_vkey
from stead.tlog.merkle import Unproven
from stead.tlog.note import Note, verified
from stead.tlog.strict import Malformed, decimal

POLICY_MAX_BYTES: Final = 524_288
LINES_MAX: Final = 256  # of logs, of witnesses, and of groups
NONE: Final = "none"
_RESERVED: Final = frozenset((NONE, "any", "all"))
_ALLOWED: Final = bytes((0x09, 0x0A, *range(0x20, 0x7F), *range(0x80, 0x100)))


class LogLine(NamedTuple):
    """A log that is believed. Its key's name is the log's origin."""

    key: VerifierKey
    url: str = ""


class WitnessLine(NamedTuple):
    """A witness under the name that the policy gives it."""

    name: str
    key: VerifierKey
    url: str = ""

    @property
    def cosigner(self) -> VerifierKey:
        """The key that its cosignatures carry: a plain Ed25519 vkey (0x01) stands for the cosigner's (0x04) of the same key."""
        return VerifierKey(self.key.name, COSIGNATURE, self.key.public) if self.key.kind == ED25519 else self.key


class Group(NamedTuple):
    """A group, satisfied when at least `threshold` of its members (witnesses, or groups before it) are."""

    name: str
    threshold: int
    members: tuple[str, ...]


class TrustPolicy(NamedTuple):
    """Whom to believe. `quorum` names a witness or a group; "none" asks for no cosignature."""

    logs: tuple[LogLine, ...]
    witnesses: tuple[WitnessLine, ...]
    groups: tuple[Group, ...]
    quorum: str


class Accepted(NamedTuple):
    """A checkpoint that a policy accepts, the keys of its log that signed it, and who cosigned it when (POSIX seconds)."""

    checkpoint: Checkpoint
    logs: tuple[VerifierKey, ...]
    witnesses: tuple[tuple[str, int], ...]


def parse_policy(data: bytes) -> TrustPolicy:
    """Read a policy of up to 512 KiB. Raises Malformed with the line's number.

    Octets above 0x7E are opaque in names and addresses; those that are not UTF-8 become lone surrogates, as file names do.
    """
    if len(data) > POLICY_MAX_BYTES:
        raise Malformed(f"policy: {len(data)} bytes are more than {POLICY_MAX_BYTES}")
    if data.translate(None, _ALLOWED):
        raise Malformed("policy: it has a control character")
    reading = _Reading()
    for number, line in enumerate(data.decode(errors="surrogateescape").split("\n"), 1):
        words = _words(line)
        if words:
            try:
                reading.line(words)
            except Malformed as error:
                raise Malformed(f"policy, line {number}: {error}") from None
    policy = reading.policy()
    if not data.endswith(b"\n"):
        raise Malformed("policy: the last line has no newline, so its end may be missing")
    return policy


def format_policy(policy: TrustPolicy) -> bytes:
    """A policy in its plainest form: one space between words, thresholds as numbers, no comments."""
    lines = [["log", log.key.text, log.url] for log in policy.logs]
    lines += [["witness", witness.name, witness.key.text, witness.url] for witness in policy.witnesses]
    lines += [["group", group.name, str(group.threshold), *group.members] for group in policy.groups]
    lines.append(["quorum", policy.quorum])
    text = "".join(" ".join(line).rstrip(" ") + "\n" for line in lines)
    return text.encode(errors="surrogateescape")


def satisfied(policy: TrustPolicy, names: set[str]) -> bool:
    """Whether the witnesses of these names reach the quorum. A key that has two names counts under its first one only."""
    reached = {NONE} | (names & _first_names(policy))
    for group in policy.groups:
        if sum(member in reached for member in group.members) >= group.threshold:
            reached.add(group.name)
    return policy.quorum in reached


def check_checkpoint(note: Note, policy: TrustPolicy) -> Accepted:
    """What the policy makes of a signed checkpoint. Raises Unproven if it is not to be believed, Malformed if it is none.

    A log's key counts only for the log of its name (the checkpoint's origin). Times of cosignatures are reported, not judged.
    """
    checkpoint = parse_checkpoint(note.text)
    logs = [log.key for log in policy.logs if log.key.name == checkpoint.origin]
    signed = {each.key for each in verified(note, logs)}
    if not signed:
        raise Unproven(f"no log that the policy trusts signed this checkpoint of {checkpoint.origin}")
    first = _first_names(policy)
    named = {witness.cosigner: witness.name for witness in policy.witnesses if witness.name in first}
    cosigned = verified(note, list(named))
    witnesses = tuple((named[each.key], each.time_s) for each in cosigned if each.time_s is not None)
    if not satisfied(policy, {name for name, _ in witnesses}):
        by = " and ".join(name for name, _ in witnesses)
        who = f"of the policy's witnesses only {by}" if by else "no witness of the policy"
        raise Unproven(f"{who} cosigned it, and the quorum that the policy asks for is {policy.quorum}")
    return Accepted(checkpoint, tuple(key for key in logs if key in signed), witnesses)


def _first_names(policy: TrustPolicy) -> set[str]:
    """The names that can count: of each public key, the first."""
    first: dict[bytes, str] = {}
    for witness in policy.witnesses:
        first.setdefault(witness.key.public, witness.name)
    return set(first.values())


def _words(line: str) -> list[str]:
    """The words of a line, without its comment. Only spaces and tabs separate."""
    words = [word for word in line.replace("\t", " ").split(" ") if word]
    comment = next((place for place, word in enumerate(words) if word.startswith("#")), len(words))
    return words[:comment]


class _Reading:
    """What the lines so far have defined."""

    def __init__(self) -> None:
        self.logs: list[LogLine] = []
        self.witnesses: list[WitnessLine] = []
        self.groups: list[Group] = []
        self.quorum: str | None = None
        self.names: set[str] = set()
        self.members: set[str] = set()

    def line(self, words: list[str]) -> None:
        """Take one line's words."""
        readers = {"log": self._log, "witness": self._witness, "group": self._group, "quorum": self._quorum}
        if words[0] not in readers:
            raise Malformed("it is not a log, a witness, a group or the quorum")
        readers[words[0]](words[1:])
        if max(len(self.logs), len(self.witnesses), len(self.groups)) > LINES_MAX:
            raise Malformed(f"more than {LINES_MAX} of a kind")

    def policy(self) -> TrustPolicy:
        """The whole. Raises Malformed without a quorum."""
        if self.quorum is None:
            raise Malformed("policy: it must define a quorum")
        return TrustPolicy(tuple(self.logs), tuple(self.witnesses), tuple(self.groups), self.quorum)

    def _log(self, words: list[str]) -> None:
        if not 1 <= len(words) <= 2:
            raise Malformed("a log has a vkey, and perhaps an address")
        log = LogLine(parse_vkey(words[0]), *words[1:])
        if any(log.key.public == other.key.public for other in self.logs):
            raise Malformed("this log's key is already listed")
        self.logs.append(log)

    def _witness(self, words: list[str]) -> None:
        if not 2 <= len(words) <= 3:
            raise Malformed("a witness has a name, a vkey, and perhaps an address")
        self._define(words[0], "witness")
        self.witnesses.append(WitnessLine(words[0], parse_vkey(words[1]), *words[2:]))

    def _group(self, words: list[str]) -> None:
        if len(words) < 3:
            raise Malformed("a group has a name, a threshold, and members")
        name, wanted, *members = words
        self._define(name, "group")
        unknown = set(members) - (self.names - {name})
        if unknown:
            raise Malformed(f"group member {min(unknown)!a} not found above")
        if len(set(members)) < len(members) or self.members & set(members):
            raise Malformed("a name is a member of a group twice")
        self.members.update(members)
        self.groups.append(Group(name, _threshold(wanted, len(members)), tuple(members)))

    def _quorum(self, words: list[str]) -> None:
        if len(words) != 1:
            raise Malformed("a quorum is one name")
        if self.quorum is not None:
            raise Malformed("there is a quorum already")
        if words[0] not in self.names | {NONE}:
            raise Malformed(f"quorum component {words[0]!a} not found above")
        self.quorum = words[0]

    def _define(self, name: str, what: str) -> None:
        if name in _RESERVED:
            raise Malformed(f"invalid {what} name, {name}: it has a meaning of its own")
        if name in self.names:
            raise Malformed(f"duplicate component name, {name!a}")
        self.names.add(name)


def _threshold(wanted: str, members: int) -> int:
    if wanted in ("any", "all"):
        return 1 if wanted == "any" else members
    try:
        threshold = decimal(wanted)
    except Malformed:
        threshold = 0
    if not 1 <= threshold <= members:
        raise Malformed(f"invalid threshold: {wanted[:20]!a} of {members} members")
    return threshold
