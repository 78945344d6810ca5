"""`stead metrics`: the latest value of everything, or one metric over time with its curve."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

import click

from stead.cli.table import Cell, printable, table
from stead.cli.verb import Session, examples, options
from stead.cli.words import duration, moment, number, plain, seconds_of, sparkline
from stead.model.errors import SteadError
from stead.model.messages import GetMetrics, GetStatus, MetricList, MetricView, QuerySeries, SeriesAnswer, Status

EXAMPLES = examples(
    ("stead metrics", "the latest value of everything"),
    ("stead metrics 'infra.psi_*'", "only some"),
    ("stead metrics infra.cpu_utilization --since 1h", "one metric over the last hour"),
)
MOST_SUBJECTS = 12  # series drawn at once


@click.command(epilog=EXAMPLES)
@click.argument("metric", required=False, metavar="[ID]")
@click.option("--since", metavar="TIME", help="Show it over time: 90s, 15m, 1h, 7d.")
@click.option("--subject", metavar="SUBJECT", help="Only this subject, e.g. host or mount:/var (globs work).")
@options
def metrics(session: Session, metric: str | None, since: str | None, subject: str | None) -> None:
    """Show the latest values (ID may be a glob), or with --since one metric over time."""
    if since is not None and metric is None:
        raise click.UsageError("--since needs the id of a metric", click.get_current_context())
    span_s = seconds_of(since) if since is not None else 0.0
    answer = session.ask(GetMetrics(), MetricList)
    chosen = _chosen(answer, metric, subject)
    if since is not None:
        series = [_query(session, view, span_s) for view in chosen[:MOST_SUBJECTS]]
        session.show(series, lambda: series_lines(series, span_s, len(chosen)))
        return
    shown = MetricList(tuple(chosen), answer.unsupported if metric is None else {})
    session.show(shown, lambda: metric_lines(shown))


def _chosen(answer: MetricList, metric: str | None, subject: str | None) -> list[MetricView]:
    """The views that match. SteadError when the metric is not known, and why."""
    views = [view for view in answer.metrics if metric is None or fnmatchcase(view.metric, metric)]
    if metric is not None and not views:
        raise _no_metric(answer, metric)
    if subject is None:
        return views
    views = [view for view in views if fnmatchcase(view.subject, subject) or fnmatchcase(plain(view.subject), subject)]
    if not views:
        raise SteadError(f"no value of subject {subject!r}", "", "`stead metrics` lists what there is", code="metrics.no-subject")
    return views


def _no_metric(answer: MetricList, metric: str) -> SteadError:
    if metric in answer.unsupported:
        missing = answer.unsupported[metric].removeprefix("unsupported: ")
        what, fix = f"metric {metric} has no values here: unsupported: {missing}", "`stead metrics` lists what there is"
        return SteadError(what, "", fix, code="metrics.unsupported")
    known = {view.metric for view in answer.metrics} | set(answer.unsupported)
    near = [] if set("*?[") & set(metric) else get_close_matches(metric, known, 1)
    fix = f"did you mean {near[0]}?" if near else "`stead metrics` lists what there is"
    return SteadError(f"there is no metric {metric!r}", "", fix, code="metrics.unknown")


def metric_lines(answer: MetricList) -> list[str]:
    """One row a metric and subject; then what can't be measured yet."""
    rows: list[list[Cell]] = [
        [
            view.metric,
            plain(view.subject),
            number(view.value, view.unit),
            (view.band if view.catalogued or view.value is None else "", view.band),
            view.reason if view.value is None else "",
        ]
        for view in sorted(answer.metrics, key=lambda one: (not one.catalogued, one.metric, one.subject))
    ]
    lines = table(("METRIC", "SUBJECT", "VALUE", "BAND", "WHY"), rows, right=frozenset({2}), none="no value yet")
    if answer.unsupported:
        lines += ["", "not measured here"]
        lines += table(("METRIC", "WHY"), sorted((name, why) for name, why in answer.unsupported.items()))
    return lines


def _query(session: Session, view: MetricView, span_s: float) -> SeriesAnswer:
    """The series of one view, up to its newest value."""
    end_ms = max(view.at_ms, session.ask(GetStatus(), Status).now_ms) + 1
    return session.ask(QuerySeries(view.metric, view.subject, end_ms - int(span_s * 1000), end_ms), SeriesAnswer)


def series_lines(series: Sequence[SeriesAnswer], span_s: float, found: int) -> list[str]:
    """Each series as a curve with its least, mean, greatest and last value."""
    lines: list[str] = []
    for one in series:
        known = [value for value in one.avg if value is not None]
        lows = [value for value in (one.min or one.avg) if value is not None]
        highs = [value for value in (one.max or one.avg) if value is not None]
        lines.append(f"{one.metric} of {printable(plain(one.subject))}, the last {duration(span_s)} ({one.source} values)")
        if not known:
            lines.append("  no value in this time")
            continue
        lines.append(f"  {sparkline(one.avg)}")
        figures = (("min", min(lows)), ("mean", sum(known) / len(known)), ("max", max(highs)), ("last", known[-1]))
        lines.append("  " + "   ".join(f"{name} {number(value, one.unit)}" for name, value in figures))
        lines.append(f"  from {moment(one.at_ms[0])} to {moment(one.at_ms[-1])}, {len(known)} of {len(one.avg)} known")
    if found > len(series):
        lines.append(f"and {found - len(series)} more subjects: choose with --subject")
    return lines
