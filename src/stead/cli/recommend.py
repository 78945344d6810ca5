"""`stead recommend`: what measured use asks for, and the one command that applies a piece of it."""

from __future__ import annotations

import re
from typing import Final

import click

from stead.cli.plan import MEANINGS, reason_of, run_lines
from stead.cli.table import printable, styled
from stead.cli.verb import Session, confirm, examples, options
from stead.cli.words import duration, plural
from stead.model.advice import Advice, AdviceList, ApplyAdvice, GetAdvice
from stead.model.change import Run
from stead.model.errors import EXIT_APPROVAL, EXIT_FAILURE, EXIT_OK, SteadError
from stead.model.messages import RunList

EXAMPLES = examples(
    ("stead recommend", "what fits the last week's use, what frees most first"),
    ("stead recommend --over 30d", "from a month"),
    ("stead recommend --apply 4f1c09aa", "make one of them a proposal, decided by the policy like any other"),
)
HEADS: Final = {"limit": "Limits", "workers": "Workers", "merging": "Equal pages", "consumer": "Top consumers"}
UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_WEEK_S, _DAY_S = UNITS["w"], UNITS["d"]
_STOPPED: Final = frozenset(("refused", "failed", "unsupported", "conflict", "undo_failed"))


class Length(click.ParamType[float]):
    """A length of time such as 90s, 12h or 7d, in seconds."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds of a text."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", str(value).strip())
        if not found:
            self.fail(f"{value!r} is no length of time: write it as 12h or 7d", param, ctx)
        return float(found[1]) * UNITS[found[2]]


@click.command(epilog=EXAMPLES)
@click.option("--over", "over_s", type=Length(), default="7d", show_default=True, help="From the measurements of so long.")
@click.option("--at-least", "at_least_s", type=Length(), default="1d", show_default=True, help="Leave out what is measured less.")
@click.option("--apply", "chosen", metavar="ID", default="", help="Make the recommendation with this id a proposal.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@options
def recommend(session: Session, over_s: float, at_least_s: float, chosen: str, yes: bool) -> int:
    """Show what measured use asks for: limits that are too wide or too tight, workers, and who takes most."""
    answer = session.ask(GetAdvice(over_s, min(at_least_s, over_s)), AdviceList)
    if not chosen:
        session.show(answer, lambda: lines(answer))
        return EXIT_OK
    found = [one for one in answer.advice if one.id.startswith(chosen)]
    if len(found) != 1:
        what = f"no recommendation has the id {chosen!r} now" if not found else f"{chosen!r} is the start of more than one id"
        raise SteadError(what, "", "`stead recommend` lists them", code="advice.unknown")
    if not session.json:
        for line in advice_lines(found[0])[:-1]:
            click.echo(line)
    confirm("Apply it?", yes, "not applied", "advice.declined")
    run = session.ask(ApplyAdvice(found[0].id, over_s, min(at_least_s, over_s)), RunList).runs[0]
    session.show(RunList((run,)), lambda: ["", *run_lines(run, run.updated_ms)] if run.state in _STOPPED else [_outcome(run)])
    return EXIT_FAILURE if run.state in _STOPPED else EXIT_APPROVAL if run.state in ("waiting", "advised") else EXIT_OK


def _outcome(run: Run) -> str:
    said = reason_of(run) or MEANINGS.get(run.state, "")
    fix = {
        "waiting": f"; `stead approve {run.id[:13]}` lets it act",
        "verifying": f"; `stead undo {run.id[:13]}` puts it back",
    }.get(run.state, "")
    return f"run {run.id} is {run.state}: {said}{fix}"


def lines(answer: AdviceList) -> list[str]:
    """All advice by kind, or why there is none."""
    found: list[str] = []
    for kind, head in HEADS.items():
        listed = [one for one in answer.advice if one.kind == kind]
        if listed:
            asked = _asked(answer)
            found += ["", styled(head, "bold"), *(line for one in listed for line in advice_lines(one, asked))]
    if not answer.advice:
        why = "limits and workers fit what was measured" if answer.measured else "too little has been measured yet"
        found.append(f"nothing to recommend from the last {duration(answer.over_s)}: {why}")
        if not answer.measured and not answer.too_short:
            found.append("what units, containers, workloads and processes take is summed up each 5 min (`agent.snapshot_s`)")
    if answer.too_short:
        longest = max(answer.too_short.values())
        found += [
            "",
            f"{plural(len(answer.too_short), 'thing')} left out: measured for {duration(longest)} at most, less than"
            f" {duration(answer.at_least_s)} (--at-least)",
        ]
    return found[1:] if found and not found[0] else found


def _asked(answer: AdviceList) -> str:
    """The options that this list was asked for with: its ids are of that list, and --apply needs the same."""
    over = f" --over {_length(answer.over_s)}" if answer.over_s != _WEEK_S else ""
    return over + (f" --at-least {_length(answer.at_least_s)}" if answer.at_least_s != min(_DAY_S, answer.over_s) else "")


def _length(seconds: float) -> str:
    """A length as `--over` takes it: 90s, 12h, 30d."""
    unit = next(one for one in ("w", "d", "h", "m", "s") if seconds % UNITS[one] == 0 or one == "s")
    return f"{seconds / UNITS[unit]:g}{unit}"


def advice_lines(one: Advice, asked: str = "") -> list[str]:
    """One piece of advice: what to do, why, what it saves, what it risks, and how. `asked`: options that it was found with."""
    how = f"can't be applied by a command: {one.impossible}" if one.impossible else f"stead recommend --apply {one.id}{asked}"
    return [
        f"  {one.id}  {printable(one.title)}",
        f"    why    {printable(one.reason)}",
        f"    saves  {printable(one.saves)}",
        f"    risk   {printable(one.risk)}",
        f"    apply  {how}",
    ]
