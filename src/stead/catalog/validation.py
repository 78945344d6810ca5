"""`stead catalog validate [DIR]`: every mistake of a catalogue and its policy at once, each with file, line and key."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from stead import documents
from stead.catalog.checks import BUILT_IN_STATES, check
from stead.catalog.files import FOLDER, POLICY, SHIPPED, lay, overlay_files
from stead.catalog.policy import policy_problems
from stead.model.errors import Problem, SteadError


def validate(
    directory: str = "",
    *,
    states: Mapping[str, Collection[str]] | None = None,
    known_metrics: Collection[str] = (),
    protected: Sequence[str] = (),
) -> list[Problem]:
    """Check a folder or file laid over the shipped catalogue (empty: the shipped one alone). Empty list: all is well.

    `states`: actuator → the names in its state, where plugins add to stead's own.
    """
    try:
        shipped_alone = not directory or Path(directory).resolve() == FOLDER.resolve()
        groups = [SHIPPED] if shipped_alone else [SHIPPED, overlay_files(directory)]
        if not groups[-1] and not Path(directory, POLICY).is_file():
            raise documents.wrong(
                "there is no YAML file in it", directory, "name the catalogue's own folder", code="catalog.none"
            )
        laid = lay(groups)
        found = [*laid.problems, *check(laid, {**BUILT_IN_STATES, **(states or {})}, strict=True, known_metrics=known_metrics)]
    except SteadError as error:
        found = [error.problem]
    return found + _policy(Path(directory) if directory else FOLDER, protected)


def _policy(folder: Path, protected: Sequence[str]) -> list[Problem]:
    path = folder / POLICY
    if not path.is_file():
        return []
    try:
        return policy_problems(documents.read(path), protected)
    except SteadError as error:
        return [error.problem]
