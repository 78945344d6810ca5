"""`stead why <thing>`: the chain from samples to finding, proposal, rule, change and verdict, from the ledger's leaves alone.

The thing may be an id (of a finding, run or entry, or its beginning or end), a metric, a process ("4711", "process:4711"), a
workload or package ("workload:web", "web"), a playbook, or a setting ("priority", "priority.nice"). Each link names its
entry, the hash of its leaf and its place in the tree, so that `stead proof` can be asked for it. What a leaf names and was
erased is said to be erased. No table, no memory, no clock: an exported log is enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final, Protocol

import msgspec

from stead.ledger.said import Plan, Said, blob_of, plan_of, said
from stead.ledger.words import AGAIN, RENEWED, number, plain, plainly, step_words, words_of
from stead.model.change import Step
from stead.model.errors import EXIT_FAILURE, SteadError
from stead.model.ledger_messages import BlobList, EntryPage, SearchEntries
from stead.model.messages import Explanation, Link

ADJUSTED: Final = "run.adjusted"
MOST: Final = 5  # runs, and findings, told of a thing that has had many
SEEN_MAX: Final = 2000  # entries that a search may come by
RUN_MAX: Final = 5000  # entries of one run; a lease that is renewed for months has many
PAGE: Final = 500
BEGINNINGS: Final = "[fp]*.[om]*"  # finding.opened, proposal.made: where a chain begins
ID_MIN: Final = 8
STATIONS: Final = {
    "finding": "find",
    "proposal": "propose",
    **dict.fromkeys(("decision", "governance", "approval", "hold"), "decide"),
    **dict.fromkeys(("attempt", "receipt", "conflict"), "act"),
    "verdict": "verify",
}
RUN_STATIONS: Final = {
    **dict.fromkeys(("advised", "waiting", "approved", "refused", "denied", "expired"), "decide"),
    **dict.fromkeys(("verifying", "held", "kept"), "verify"),
}


class Log(Protocol):
    """What is read of a ledger, wherever it is: the part of `ledger.source.LogSource` that is needed."""

    def find(self, query: SearchEntries) -> EntryPage:
        """Entries that meet a query, newest first, a page at a time."""

    def blobs(self, start: int, end: int) -> BlobList:
        """What is kept beside the leaves of these indexes and was not erased."""


def explain(thing: str, log: Log, gone: str = "has been erased") -> Explanation:
    """Everything that is recorded about a thing, in order of time; of one that has had much, the newest.

    `gone`: why something that a leaf names is not in this log. Raises SteadError `why.unknown` when nothing is recorded.
    """
    reader = _Reader(log)
    seen = reader.about(thing) or reader.naming(thing)
    runs = _unique(one for one in seen if one.entry.type == "proposal.made")
    findings = _unique(one for one in seen if one.entry.type == "finding.opened")
    answered = {str(one.body.get("finding") or "") for one in runs}
    for finding in [one for one in findings[:MOST] if one.entry.subject not in answered]:
        runs = _unique([*runs, *reader.answering(finding.entry.subject)])
    if not runs and not findings:
        raise SteadError(
            f"no finding, proposal or change is recorded about {thing!r}",
            "",
            "give an id from `stead findings` or `stead runs`, a metric, playbook, setting or workload, or a process as pid:4711",
            code="why.unknown",
            exit_code=EXIT_FAILURE,
        )
    count, runs = max(len(runs), len(findings)), runs[:MOST]
    wanted = dict.fromkeys([one.entry.subject for one in findings[:MOST]] + [str(one.body.get("finding") or "") for one in runs])
    chains = [reader.finding(finding_id) for finding_id in wanted if finding_id]
    told = [reader.run(one.entry.subject) for one in runs]
    holds = [one for one in (reader.hold(plan) for plan, _ in told) if one is not None]
    links = [link for chain in chains for link in _finding_links(chain)]
    links += [link for plan, entries in told for link in _run_links(plan, entries)]
    links += [_link(one, "decide", words_of(one)) for one in _unique(holds)]
    links.sort(key=lambda link: (link.at_ms, -1 if link.index is None else link.index))
    left = f" (the newest of {count})" if count > MOST else ""
    return Explanation(thing, _summary(chains, told, holds) + left, tuple(_lacking(link, gone) for link in links))


def _lacking(link: Link, gone: str) -> Link:
    """The link, which says so when what was beside its leaf is not there."""
    words = f"{link.words} (what was beside it {gone})" if link.erased else link.words
    return msgspec.structs.replace(link, words=words)


class _Reader:
    """Questions to a log, answered with decoded entries."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def about(self, thing: str) -> list[Said]:
        """Where the chain begins, when the thing is the id of a finding or a run, or a good part of its start."""
        found = self._all(SearchEntries(subject=thing, types=BEGINNINGS), PAGE) if thing else ()
        return [
            one for one in found if one.entry.subject == thing or (len(thing) >= ID_MIN and one.entry.subject.startswith(thing))
        ]

    def naming(self, thing: str) -> list[Said]:
        """Entries where a chain begins that name the thing, newest first."""
        target = thing.rpartition(" of ")[2]
        _, colon, name = target.partition(":")
        seen = self._naming(thing, target)
        if colon:  # a target's kind and name are members of their own
            seen += self._naming(thing, name)
        actuator, dot, _ = thing.rpartition(".")
        return seen or (self._naming(thing, actuator) if dot else [])

    def _naming(self, thing: str, text: str) -> list[Said]:
        found = self._all(SearchEntries(text=text, types=BEGINNINGS), SEEN_MAX) if text else ()
        return [one for one in found if _names(thing, one)]

    def answering(self, finding_id: str) -> list[Said]:
        """The proposals for a finding, newest first."""
        found = self._all(SearchEntries(text=finding_id, types="proposal.made"), SEEN_MAX)
        return [one for one in found if one.body.get("finding") == finding_id]

    def finding(self, finding_id: str) -> list[Said]:
        """A finding's entries, oldest first."""
        return sorted(self._of(finding_id, PAGE), key=lambda one: one.index)

    def run(self, run_id: str) -> tuple[Plan, list[Said]]:
        """A run's plan, and its entries, oldest first."""
        told = sorted(self._of(run_id, RUN_MAX), key=lambda one: one.index)
        return plan_of(run_id, told), told

    def hold(self, plan: Plan) -> Said | None:
        """What keeps this playbook off one of these targets by now."""
        for step in plan.steps:
            newest = next(self._of(f"hold:{plan.playbook}:{step.target.key}", PAGE), None)
            if newest is not None and newest.entry.type == "hold.made":
                return newest
        return None

    def _of(self, subject: str, most: int) -> Iterator[Said]:
        """Entries about this very subject, newest first. (A search also takes the start of an id.)"""
        return (one for one in self._all(SearchEntries(subject=subject), most) if one.entry.subject == subject)

    def _all(self, query: SearchEntries, most: int) -> Iterator[Said]:
        """The answers of a query, page by page, newest first, at most so many."""
        before, left = 0, most
        while left > 0:
            page = self._log.find(_paged(query, before, min(left, PAGE)))
            for entry in page.entries:
                yield said(entry, self._beside(entry.seq, entry.leaf))
            before, left = page.more, left - len(page.entries)
            if not before:
                return

    def _beside(self, seq: int, leaf: bytes) -> bytes | None:
        if not blob_of(leaf):
            return None
        return next((one.data for one in self._log.blobs(seq - 1, seq).blobs if one.seq == seq), None)


def _paged(query: SearchEntries, before: int, limit: int) -> SearchEntries:
    return SearchEntries(text=query.text, types=query.types, subject=query.subject, before=before, limit=limit)


def _unique(found: Iterable[Said]) -> list[Said]:
    """One of each, newest first."""
    return sorted({one.entry.seq: one for one in found}.values(), key=lambda one: -one.entry.seq)


def _names(thing: str, one: Said) -> bool:
    """Does this entry speak of the thing, and not merely hold its letters?"""
    subject, body = one.entry.subject, one.body
    if len(thing) >= ID_MIN and (subject.startswith(thing) or subject.endswith(thing) or one.entry.id.startswith(thing)):
        return True
    if thing in (one.kept.get("labels") or {}).values():
        return True
    if one.entry.type == "finding.opened":
        named = plain(str(body.get("subject")))
        return thing in (body.get("metric"), body.get("subject"), named, named.partition(":")[2])
    plan = plan_of(subject, [one])
    return thing in (plan.playbook, plan.finding) or any(thing in _settings(step) for step in plan.steps)


def _settings(step: Step) -> set[str]:
    """By what names a step's setting and target are known."""
    fields = {f"{step.actuator}.{field}" for field in step.want or {}}
    return {step.actuator, str(step.target), step.target.name, f"{step.actuator} of {step.target}", *fields}


def _finding_links(chain: Sequence[Said]) -> Iterator[Link]:
    for one in chain:
        if one.entry.type == "finding.opened":
            yield from _samples(one)
        yield _link(one, "find", words_of(one))


def _samples(one: Said) -> Iterator[Link]:
    """What was measured, from the evidence beside the finding's leaf."""
    body = one.body
    what = f"{body.get('metric')} of {plain(str(body.get('subject')))}"
    values = [float(value) for _, value in one.kept.get("evidence") or ()]
    limit = "" if body.get("threshold") is None else f", past the limit of {number(body['threshold'])}"
    at_ms = int(body.get("since_ms") or one.entry.ts_ms)
    if values:
        least, most = number(min(values)), f"{number(max(values))} {body.get('unit')}".rstrip()
        read = most if least == number(max(values)) else f"{least} to {most}"
        yield _link(one, "observe", f"{what} read {read}{limit}", at_ms)
    elif one.erased and body.get("value") is not None:
        yield _link(one, "observe", f"{what} read {number(body['value'])} {body.get('unit')}{limit}", at_ms)


def _run_links(plan: Plan, told: Sequence[Said]) -> Iterator[Link]:
    """A run's entries in words; of renewals of a lease and moves of a governed value in a row the newest is told.

    So is, of stead's own further tries to put it back, the last.
    """
    foreign = _foreign(told)
    over = _former_tries(told) - foreign
    told = [one for one in told if one.entry.id not in over]
    for upkeep, row in groupby(told, key=lambda one: _renews(one) or one.entry.type == ADJUSTED):
        entries = list(row)
        renewals = [one for one in entries if _renews(one)]
        newest = {one.index for one in (*renewals[-1:], *[one for one in entries if not _renews(one)][-1:])}
        for one in [one for one in entries if one.index in newest or one.entry.id in foreign] if upkeep else entries:
            words = words_of(one, plan)
            if _renews(one) and len(renewals) > 1:
                words = words.replace(RENEWED, f"{RENEWED} {len(renewals)} times", 1)
            if one.entry.id in foreign:
                words += "; THIS ENTRY IS NOT THE ONE THAT ITS RECEIPT BINDS"
            if words:
                yield _link(one, _station(one.entry.type), words)


def _renews(one: Said) -> bool:
    return one.entry.type == "run.held" and one.reason == RENEWED


def _former_tries(told: Sequence[Said]) -> set[str]:
    """The entries of all tries to put it back once more but the last one."""
    begun = [at for at, one in enumerate(told) if one.entry.type == "run.undoing" and one.reason.startswith(AGAIN)]
    over: set[str] = set()
    for at in begun[:-1]:
        rest = told[at:]
        end = next((n for n, one in enumerate(rest) if one.entry.type == "run.undo_failed"), len(rest) - 1)
        over.update(one.entry.id for one in rest[: end + 1])
    return over


def _foreign(told: Sequence[Said]) -> set[str]:
    """Entries whose leaf is another than the receipts of the run say."""
    bound = {
        str(item.get("id")): item.get("leaf")
        for one in told
        if one.entry.type == "receipt.issued"
        for item in one.body.get("entries") or ()
    }
    return {one.entry.id for one in told if bound.get(one.entry.id, one.leaf_hash) != one.leaf_hash}


def _link(one: Said, station: str, words: str, at_ms: int | None = None) -> Link:
    when = one.entry.ts_ms if at_ms is None else at_ms
    return Link(when, station, words, one.entry.id, one.leaf_hash, one.index, one.erased)


def _station(entry_type: str) -> str:
    kind, _, state = entry_type.partition(".")
    if kind == "run":
        return RUN_STATIONS.get(state, "act")
    return "record" if entry_type == "receipt.issued" else STATIONS.get(kind, "record")


def _summary(chains: Sequence[Sequence[Said]], told: Sequence[tuple[Plan, Sequence[Said]]], holds: Sequence[Said]) -> str:
    """The newest state in one sentence."""
    moved = [(entries[-1].index, plan, entries) for plan, entries in told if entries]
    if moved:
        _, plan, entries = max(moved, key=lambda one: one[0])
        opened = next((chain[0] for chain in chains if chain and chain[0].entry.subject == plan.finding), None)
        about = f"{_title(opened)}: " if opened else ""
        held_off = "; it is kept off by a person" if any(one.body.get("playbook") == plan.playbook for one in holds) else ""
        return f"{about}{_state_words(plan, entries)}{held_off}"
    chain = max((chain for chain in chains if chain), key=lambda one: one[-1].index)
    over = chain[-1].entry.type == "finding.cleared"
    return f"{_title(chain[0])} ({'cleared' if over else 'still so'}); nothing has been proposed for it"


def _title(opened: Said) -> str:
    return str(opened.kept.get("title") or words_of(opened))


def _is_state(one: Said) -> bool:
    return one.entry.type.startswith("run.") and one.entry.type != ADJUSTED


def _state_words(plan: Plan, entries: Sequence[Said]) -> str:
    """A run in a few words: what it would do, does or did."""
    what = "; ".join(step_words(step) for step in plan.steps)
    last = next((one for one in reversed(entries) if _is_state(one)), None)
    state, reason = (last.entry.type.partition(".")[2], last.reason) if last else ("proposed", "")
    if state == "advised":
        would = {"allow": "would act", "ask": "would ask", "deny": "would refuse"}.get(plan.would, "would refuse")
        return f"{plan.playbook} {would}; in mode {plan.mode} nothing was changed"
    if plan.impossible:
        return f"{plan.playbook} is {state}: {plan.impossible.removeprefix(f'{state}: ')}"
    if last is not None and last.body.get("undo_reason") == "person" and state != "undo_failed":
        reason = "a person asked for it to be put back"
    words = {
        "waiting": f"{plan.playbook} waits for approval of {what}",
        "verifying": f"{plan.playbook} wrote {what}, and watches whether it helps",
        "held": f"{plan.playbook} is in force: {what if reason == RENEWED else reason or what}",
        "kept": f"{plan.playbook} was done and stays: {reason or what}",
    }
    return words.get(state, f"{plan.playbook} is {state.replace('_', ' ')}" + (f": {plainly(reason)}" if reason else ""))
