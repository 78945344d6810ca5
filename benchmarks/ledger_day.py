"""What the ledger of a busy host gets in a day, made by the same builders that the agent uses.

Busy means: the budget of the shipped policy is used up all day long (6 actions an hour), each action answers a finding of its
own with sixty points of evidence, one in four waits for a person, and a finding stays open for an hour, so that the run's
lease is renewed eight times before it is put back. One in twelve does not help and is undone at once; a tenth as many
proposals again are refused. Snapshots every five minutes; two restarts.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from stead.flow import record, runs
from stead.flow.record import Stamp, plan_hash
from stead.ledger.leaf import uuid7
from stead.model.change import Attempt, Prediction, Proposal, Receipt, Record, Run, Step, Target, Verdict
from stead.model.find import Finding
from stead.model.observe import Now
from stead.model.policy import Actor, Approval, Decision, Policy
from stead.model.record import Entry

FINDINGS = 144
DAY_MS = 86_400_000
MINUTE_MS = 60_000
BEGAN_MS = 1_767_225_600_000  # 2026-01-01
POLICY = Actor("policy", "policy")
PEOPLE = (Actor("user", "uid:1000"), Actor("user", "uid:1001"))
WRITES = ("nice", "autogroup")
COMMANDS = ("/usr/bin/python3 /srv/app/reindex.py --all --workers 4", "ffmpeg -i in.mkv -c:v libx265 -crf 22 out.mkv", "gzip -9")


class Commit(NamedTuple):
    """The arguments of one `Keeper.commit`, which adds the run's receipt where one is due, and when it is made."""

    at_ms: int
    entries: Sequence[Entry]
    more: dict[str, Any]


class Day:
    """A source of busy days for one host; the same seed gives the same days."""

    def __init__(self, host: str = "web-3.example.net", seed: int = 1) -> None:
        self.host, self.random, self.boot_id = host, random.Random(seed), uuid7(BEGAN_MS, b"\7" * 10)
        self.version = self.random.randbytes(32).hex()

    def stamp(self, at_ms: int) -> Stamp:
        """The agent's stamp at a time; new ids are of that time."""
        return Stamp(self.host, Now(at_ms, at_ms), lambda: uuid7(at_ms, self.random.randbytes(10)))

    def commits(self, day: int, findings: int = FINDINGS) -> Iterator[Commit]:
        """All commits of one day, in the order of time. The n-th day begins n days after the start of 2026."""
        start_ms = BEGAN_MS + day * DAY_MS
        every_ms = DAY_MS // findings
        scripts = [self._story(start_ms + number * every_ms + self.random.randrange(every_ms // 2)) for number in range(findings)]
        scripts += [self._refused(start_ms + number * DAY_MS // 14) for number in range(14)]
        yield from heapq.merge(*scripts, self._snapshots(start_ms), self._restarts(start_ms), key=lambda commit: commit.at_ms)

    def _snapshots(self, start_ms: int) -> Iterator[Commit]:
        for at_ms in range(start_ms, start_ms + DAY_MS, 5 * MINUTE_MS):
            taken = record.snapshots_taken((), at_ms, at_ms + 5 * MINUTE_MS, self.stamp(at_ms))
            body = {**taken.body, "count": 412, "hash": "sha256:" + self.random.randbytes(32).hex()}
            yield Commit(at_ms, [msgspec.structs.replace(taken, body=body)], {})

    def _restarts(self, start_ms: int) -> Iterator[Commit]:
        for at_ms in (start_ms + 5 * 60 * MINUTE_MS, start_ms + 17 * 60 * MINUTE_MS):
            yield Commit(at_ms, [record.agent_stopped("0.4.0", self.stamp(at_ms))], {})
            yield Commit(at_ms + 900, [record.agent_started("0.4.0", self.stamp(at_ms + 900), boot_id=self.boot_id)], {})

    def _finding(self, at_ms: int) -> Finding:
        pid, command = self.random.randrange(1_000, 400_000), self.random.choice(COMMANDS)
        values = [(at_ms - 1000 * age, round(self.random.uniform(0.92, 1.02), 6)) for age in range(60, 0, -1)]
        return Finding(
            id=self.stamp(at_ms).new_id(),
            fingerprint=f"band|infra.process_cpu_cores|process:{pid}@{self.random.randrange(10**8)}",
            detector="band",
            metric="infra.process_cpu_cores",
            subject=f"process:{pid}@{self.random.randrange(10**8)}",
            band="warning",
            title=f"{command.split()[0]} (pid {pid}) has used 1.0 cores for 60 s",
            value=values[-1][1],
            threshold=0.9,
            unit="cores",
            since_ms=at_ms - 60_000,
            opened_ms=at_ms,
            updated_ms=at_ms,
            evidence=tuple(values),
            playbooks=("calm-cpu-hog",),
            labels={"process": command.split()[0], "pid": str(pid), "command": command, "user": "app"},
        )

    def _proposal(self, finding: Finding, at_ms: int) -> Proposal:
        identity = {"start_ticks": str(self.random.randrange(10**8)), "boot_id": self.boot_id}
        leader = {"leader": str(self.random.randrange(1_000, 9_000)), "start_ticks": str(self.random.randrange(10**8))}
        target = Target("process", finding.labels["pid"], identity, leader)
        before: Record = {"nice": 0, "autogroup_nice": 0}
        want: Record = {"nice": 19, "autogroup_nice": 19}
        note = "applies to the whole session"
        steps = (Step("priority", target, before, want, "exact", lease_s=600.0, note=note),)
        said = Prediction("infra.others_run_delay", "host", "down", 0.3, True, 30.0, self.random.random(), 0.05)
        return Proposal(
            id=self.stamp(at_ms).new_id(),
            playbook="calm-cpu-hog",
            title="Let others go before a process that takes a whole core",
            finding_id=finding.id,
            requester=POLICY,
            risk="low",
            tier=1,
            confidence=0.7,
            steps=steps,
            prediction=said,
            verify_s=30.0,
            plan_hash=plan_hash(steps),
            created_ms=at_ms,
            expires_ms=at_ms + 4_200_000,
            labels=finding.labels,
            catalog_version=self.version,
        )

    def _decision(self, proposal: Proposal, at_ms: int, answer: str) -> Decision:
        asked = answer == "ask"
        reasons = {"allow": "tier 1 acts alone below ceiling 1", "ask": "rule night-watch asks", "deny": "the budget is used up"}
        return Decision(
            proposal_id=proposal.id,
            answer=answer,  # type: ignore[arg-type]
            rules=("tier:1", "rule:night-watch" if asked else "default"),
            reasons=(reasons[answer],),
            approvals_needed=1 if asked else 0,
            mode="act",
            policy_version=self.version,
            at_ms=at_ms,
        )

    def _refused(self, at_ms: int) -> Iterator[Commit]:
        finding = self._finding(at_ms)
        stamp = self.stamp(at_ms + 20)
        proposal = self._proposal(finding, at_ms)
        run, entries = runs.start(proposal, self._decision(proposal, at_ms, "deny"), stamp.by(POLICY))
        yield Commit(at_ms, [record.finding_opened(finding, self.stamp(at_ms))], {"findings": [finding]})
        yield Commit(at_ms + 20, entries, {"runs": [run]})
        yield self._cleared(finding, at_ms + 5 * MINUTE_MS)

    def _cleared(self, finding: Finding, at_ms: int) -> Commit:
        cleared = msgspec.structs.replace(finding, cleared_ms=at_ms, updated_ms=at_ms, folded=self.random.randrange(9))
        return Commit(at_ms, [record.finding_cleared(cleared, self.stamp(at_ms))], {"findings": [cleared]})

    def _story(self, at_ms: int) -> Iterator[Commit]:
        """One finding from opening to clearing, and the run that answered it."""
        finding = self._finding(at_ms)
        yield Commit(at_ms, [record.finding_opened(finding, self.stamp(at_ms))], {"findings": [finding]})
        proposal = self._proposal(finding, at_ms)
        asked, helped = self.random.random() < 0.25, self.random.random() > 1 / 12
        decision = self._decision(proposal, at_ms, "ask" if asked else "allow")
        run, entries = runs.start(proposal, decision, self.stamp(at_ms).by(POLICY))
        yield Commit(at_ms, entries, {"runs": [run]})
        if asked:
            at_ms += 4 * MINUTE_MS
            approval = Approval(self.stamp(at_ms).new_id(), run.id, proposal.plan_hash, PEOPLE[0], at_ms, at_ms + 600_000)
            run, entries = runs.approve(run, approval, Policy(), self.stamp(at_ms))
            yield Commit(at_ms, entries, {"runs": [run], "approvals": [approval]})
            checked = record.policy_checked(run.id, "ask", ("budget",), self.version, self.stamp(at_ms), run.cause)
            yield Commit(at_ms + 10, [checked], {})
            at_ms += 20
        run, entries = runs.begin(run, self.stamp(at_ms))
        run, commits = self._written(run, entries, "forward", at_ms)
        yield from commits
        at_ms += 30_000
        yield from self._after(run, finding, helped, at_ms)

    def _after(self, run: Run, finding: Finding, helped: bool, at_ms: int) -> Iterator[Commit]:
        result = "helped" if helped else "no_help"
        reason = "infra.others_run_delay fell from 0.8134 to 0.2211, and 0.5694 was predicted"
        verdict = Verdict(result, reason, 0.8134, self.random.random(), 0.5694, at_ms)  # type: ignore[arg-type]
        run, entries = runs.verified(run, verdict, self.stamp(at_ms))
        yield Commit(at_ms, entries, {"runs": [run]})
        end_ms = at_ms + self.random.randrange(20, 100) * MINUTE_MS
        while helped and at_ms + 450_000 < end_ms:
            at_ms += 450_000
            run, entries = runs.renewed(run, at_ms + 600_000, self.stamp(at_ms))
            yield Commit(at_ms, entries, {"runs": [run]})
        at_ms = max(at_ms, end_ms)
        yield self._cleared(finding, at_ms)
        entries = ()
        if helped:
            run, entries = runs.begin_undo(run, "lease", self.stamp(at_ms))
        _, commits = self._written(run, entries, "undo", at_ms)
        yield from commits

    def _written(self, run: Run, entries: Sequence[Entry], way: str, at_ms: int) -> tuple[Run, list[Commit]]:
        """The attempt and the receipt of the run's one step, and the move that follows."""
        stamp, step = self.stamp(at_ms), run.proposal.steps[0]
        before, want = (step.before, step.want) if way == "forward" else (step.want, step.before)
        attempt = Attempt(stamp.new_id(), run.id, 0, way, before, want, at_ms)  # type: ignore[arg-type]
        used = [one.id for one in run.approvals if one.used_ms is None]
        run, made = runs.attempted(run, attempt, stamp)
        first = Commit(at_ms, (*entries, *made), {"runs": [run], "use_approvals": used})
        stamp = self.stamp(at_ms + 3)
        cost = self.random.random() / 1000
        values = (want or {}).values()
        operations = tuple(f"setpriority {name} of {step.target} to {value}" for name, value in zip(WRITES, values, strict=True))
        receipt = Receipt(attempt.id, 0, way, "done", want, "", at_ms + 3, cost, cost * 2, operations)  # type: ignore[arg-type]
        run, settled = runs.settled(run, receipt, stamp)
        run, moved = runs.acted(run, stamp) if way == "forward" else runs.finish_undo(run, stamp)
        return run, [first, Commit(at_ms + 3, (*settled, *moved), {"runs": [run]})]
