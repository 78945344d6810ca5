"""`stead catalog validate` and `stead config check`: is what people wrote right? Needs no agent, changes nothing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from stead.cli.intent import intent_lines
from stead.cli.table import printable, styled
from stead.cli.verb import Session, examples, options
from stead.model.config import Config
from stead.model.errors import EXIT_FAILURE, EXIT_OK, EXIT_USAGE, Problem, SteadError
from stead.model.intent import Matched

VALIDATE = examples(
    ("stead catalog validate", "the catalogue that comes with stead"),
    ("stead catalog validate ./catalog", "a directory (or file) of your own"),
)
CATALOG = examples(
    ("stead catalog validate ./catalog", "name every mistake with file, line and key"),
)
CHECK = examples(
    ("stead config check", "what stead would read now, environment included"),
    ("stead config check ./stead.yaml", "one file, before it is installed"),
)
CONFIG = examples(
    ("stead config check ./stead.yaml", "name every mistake with file and line"),
)


class Checked(msgspec.Struct, frozen=True):
    """What a check found: `ok` when nothing is wrong; notes are problems with exit code 0."""

    ok: bool
    checked: tuple[str, ...]
    problems: tuple[Problem, ...]
    intent: tuple[Matched, ...] = ()  # what `protect` and `best_effort` match on this host now


@click.group(epilog=CATALOG)
def catalog() -> None:
    """Check a catalogue of metrics and playbooks."""


@catalog.command(epilog=VALIDATE)
@click.argument("directory", required=False, metavar="[DIR]", type=click.Path(exists=True))
@options
def validate(session: Session, directory: str | None) -> int:
    """Check metrics.yaml, playbooks.yaml and policy.yaml of DIR: keys, units, bands, ids, references."""
    from stead.catalog import validate as problems_of

    chosen = directory or _shipped()
    return _report(session, checked_of((chosen,), problems_of(chosen, states=actuator_states())), EXIT_FAILURE)


@click.group(epilog=CONFIG)
def config() -> None:
    """Check the configuration."""


@config.command(epilog=CHECK)
@click.argument("file", required=False, metavar="[FILE]", type=click.Path(exists=True, dir_okay=False))
@options
def check(session: Session, file: str | None) -> int:
    """Check FILE, or what stead would read now: /etc/stead/stead.yaml, conf.d, STEAD_CONFIG and STEAD_<SECTION>__<KEY>.

    Of what is right it also says what `protect` and `best_effort` match on this host at this moment.
    """
    from stead.cli.intent import matched_now
    from stead.config import check_aims, check_config, read_config, sources, variables

    files = (file,) if file is not None else (*sources(None, os.environ), *variables(os.environ))
    found = checked_of(files, check_config(None if file is None else [file]))
    if found.ok:
        chosen = read_config(None if file is None else [file])
        aims = check_aims(metric_names(chosen), None if file is None else [file])
        found = checked_of(files, [*found.problems, *aims])
        found = msgspec.structs.replace(found, intent=matched_now(chosen))
    return _report(session, found, EXIT_USAGE)


def checked_of(checked: Sequence[str], problems: Sequence[Problem]) -> Checked:
    """The result of a check; a problem with exit code 0 is only a note."""
    return Checked(all(one.exit_code == EXIT_OK for one in problems), tuple(checked), tuple(problems))


def _report(session: Session, found: Checked, bad: int) -> int:
    """Print the result; give the exit code."""
    session.show(found, lambda: checked_lines(found))
    return EXIT_OK if found.ok else bad


def checked_lines(found: Checked) -> list[str]:
    """One line a problem, then the sum."""
    lines = []
    for one in found.problems:
        note = one.exit_code == EXIT_OK
        lines.append(f"{styled('note' if note else 'wrong', 'warning' if note else 'critical')}  {printable(str(one))}")
    what = ", ".join(found.checked) or "the defaults (no file, nothing in the environment)"
    wrong = sum(one.exit_code != EXIT_OK for one in found.problems)
    return [*lines, f"{what}: {'right' if found.ok else f'{wrong} wrong'}", *intent_lines(found.intent)]


def metric_names(config: Config) -> set[str]:
    """The names of all metrics that there can be here: the catalogue's, and those of every installed probe.

    None where nobody asks for one.
    """
    asked = {one.objective.metric for one in config.intent.protect if one.objective and one.objective.metric}
    if not asked:
        return asked
    from stead.agent.road_probe import RoadProbe
    from stead.catalog import load_catalog
    from stead.host import LocalHost
    from stead.plugins import load

    with contextlib.suppress(SteadError):  # `stead catalog validate` says what is wrong with it
        catalogued = {*load_catalog(config.catalog).metrics}
        probes = [*load("stead.probes", host=LocalHost(), drivers={}, autonomy=None).plugins.values(), RoadProbe]
        return catalogued | {spec.id for probe in probes for spec in probe.metrics}
    return asked


def actuator_states() -> dict[str, tuple[str, ...]]:
    """What each installed actuator can be asked to set: also those of other people's packages."""
    from stead.catalog.checks import BUILT_IN_STATES
    from stead.host import LocalHost
    from stead.plugins import load

    loaded = load("stead.actuators", host=LocalHost(), drivers={}, autonomy=None).plugins
    return {name: one.state.__struct_fields__ for name, one in loaded.items() if name not in BUILT_IN_STATES}


def _shipped() -> str:
    """The catalogue that comes with stead."""
    import stead.catalog

    return str(Path(stead.catalog.__file__ or "").parent)
