"""The configuration: YAML files, then the environment, checked against the structs of `stead.model.config`.

Later ones win, maps join: `/etc/stead/stead.yaml`, `/etc/stead/conf.d/*.yaml` by name, the file named by `--config` or
else by STEAD_CONFIG, then every `STEAD_<SECTION>__<KEY>` (its value read as YAML). All mistakes are found at once, each
with its file and line. `--state`, STEAD_STATE_DIR, or running without root puts everything under one directory.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from stead import documents
from stead.documents import Document, Place
from stead.model.config import Config, Paths, SafetyConfig
from stead.model.errors import EXIT_OK, Problem, SteadError
from stead.model.intent import mistakes

ETC: Final = "/etc/stead"
_SOCKET_BYTES: Final = 107  # sun_path holds 108 with its end
_NOT_SIMULATED: Final = Problem(
    "safety.simulation_mode: false does not make stead act, so it stays in mode advise",
    "safety.simulation_mode",
    "set safety.mode: act, or run stead mode act",
    "config.note",
    EXIT_OK,
)
_SIMULATED: Final = Problem(
    "safety.simulation_mode: true overrules safety.mode: act, so stead starts in mode advise",
    "safety.simulation_mode",
    "remove one of the two",
    "config.note",
    EXIT_OK,
)


def load_config(
    paths: Paths | None = None,
    *,
    config_path: str | None = None,
    state_dir: str | None = None,
    environ: Mapping[str, str] = os.environ,
    etc: str = ETC,
) -> tuple[Config, Paths]:
    """Read the configuration and say where things are. Raises SteadError (exit code 2) with the first mistake."""
    document = _document(sources(config_path, environ, etc), environ)
    found = [problem for problem in _problems(document) if problem.exit_code != EXIT_OK]
    if found:
        raise SteadError.of(found[0])
    config = _config(document)
    where = paths or find_paths(state_dir, environ)
    if len(os.fsencode(where.socket)) > _SOCKET_BYTES:
        fix = f"name a shorter one with --state or STEAD_STATE_DIR (the socket's path may have {_SOCKET_BYTES} bytes)"
        raise documents.wrong("the state directory's path is too long for a socket", where.socket, fix, code="config.state")
    named = config_path or environ.get("STEAD_CONFIG") or _if_file(f"{etc}/stead.yaml")
    policy = config.policy or _if_file(f"{etc}/policy.yaml")
    return config, msgspec.structs.replace(where, config=where.config or named, policy=where.policy or policy)


def find_paths(state_dir: str | None = None, environ: Mapping[str, str] = os.environ, uid: int | None = None) -> Paths:
    """Where state, socket and logs are: the system's places for root, else everything under one directory."""
    state = state_dir or environ.get("STEAD_STATE_DIR", "")
    user = os.geteuid() if uid is None and hasattr(os, "geteuid") else uid
    if not state and user == 0:
        return Paths("/var/lib/stead", "/run/stead", "/var/log/stead")
    if not state:
        base = environ.get("XDG_STATE_HOME", "")
        state = f"{base}/stead" if base.startswith("/") else f"{_home(environ)}/.local/state/stead"
    state = str(Path(state).expanduser().absolute())
    return Paths(state, f"{state}/run", f"{state}/log")


def sources(config_path: str | None = None, environ: Mapping[str, str] = os.environ, etc: str = ETC) -> list[str]:
    """The files that are read, in order; a file that somebody named must exist, the others may."""
    files = [path for path in (f"{etc}/stead.yaml",) if Path(path).exists()]
    folder = Path(etc, "conf.d")
    if folder.is_dir():
        files += sorted(str(path) for path in folder.glob("*.yaml"))
    named = config_path or environ.get("STEAD_CONFIG", "")
    return [*files, named] if named else files


def check_config(files: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ, etc: str = ETC) -> list[Problem]:
    """Every mistake in these files laid over each other (default: those that stead reads, with the environment).

    A problem whose exit code is 0 is a note: the configuration works, but perhaps not as was meant.
    """
    try:
        chosen = sources(None, environ, etc) if files is None else list(files)
        return list(_problems(_document(chosen, environ if files is None else {})))
    except SteadError as error:
        return [error.problem]


def read_config(files: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ, etc: str = ETC) -> Config:
    """The configuration of these files alone (default: as `check_config`), which must be right."""
    chosen = sources(None, environ, etc) if files is None else list(files)
    return _config(_document(chosen, environ if files is None else {}))


def check_aims(
    known: Collection[str], files: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ, etc: str = ETC
) -> list[Problem]:
    """The same of objectives, which only who knows all metrics by name can judge: see `impossible_aims`."""
    chosen = sources(None, environ, etc) if files is None else list(files)
    document = _document(chosen, environ if files is None else {})
    found = impossible_aims(_config(document), known)
    return [documents.problem(what, document.where(place), fix, "config.objective") for place, what, fix in found]


def impossible_aims(config: Config, known: Collection[str]) -> Iterator[tuple[Place, str, str]]:
    """Objectives that nothing could ever be held against, as nothing here tells of them: (place, what, what to do).

    `known` are the names of all metrics. While an objective's metric is unknown nobody is slowed, so a slip of the pen is no
    small thing.
    """
    workloads = {spec.name for spec in config.workloads}
    for index, one in enumerate(config.intent.protect):
        aim, place = one.objective, ("protect", index, "objective")
        if aim is None or not aim.metric:
            continue
        if aim.metric not in known:
            what = f"the objective of {one.title} is about {aim.metric}, which nothing here tells of"
            yield (*place, "metric"), what, documents.did_you_mean(aim.metric, known)
        kind, _, name = aim.subject.partition(":")
        if kind == "workload" and name not in workloads:
            what = f"the objective of {one.title} is about the workload {name}, and there is none of that name"
            near = documents.did_you_mean(name, workloads)
            yield (*place, "subject"), what, near if "mean" in near else "name it under `workloads`, or leave `subject` out"


def notes(config: Config) -> list[Problem]:
    """What a loaded configuration says that has no effect as written."""
    if config.safety.simulation_mode is False and config.safety.mode == "advise":
        return [_NOT_SIMULATED]
    return []


def _document(files: Sequence[str], environ: Mapping[str, str]) -> Document:
    merged = Document(files[0] if files else "the environment", {})
    for path in files:
        document = documents.read(path)
        if document.value is not None and not isinstance(document.value, dict):
            raise documents.wrong("it is not a map of keys", path, "begin with e.g. agent:", code="config.wrong-value")
        merged = documents.merge(merged, document)
    for document in _from_environment(environ):
        merged = documents.merge(merged, document)
    return merged


def variables(environ: Mapping[str, str] = os.environ) -> list[str]:
    """The names in the environment that set something: STEAD_<SECTION>__<KEY>."""
    return [name for name in sorted(environ) if name.startswith("STEAD_") and "__" in name]


def _from_environment(environ: Mapping[str, str]) -> Iterator[Document]:
    for name in variables(environ):
        place: Place = tuple(part.lower() for part in name.removeprefix("STEAD_").split("__"))
        spot = f"environment {name}"
        value: Any = documents.parse(environ[name], spot).value
        for key in reversed(place):
            value = {key: value}
        yield Document(spot, value, {place[:end]: (spot, None) for end in range(1, len(place) + 1)})


def _problems(document: Document) -> Iterator[Problem]:
    shape = documents.problems(document, Config, code="config")
    yield from shape
    if shape:
        return
    config = _plain(document)
    for place, what, fix in _impossible(config):
        yield documents.problem(what, document.where(place), fix, "config.impossible")
    safety = document.value.get("safety") or {}
    if config.safety.simulation_mode and safety.get("mode") == "act":
        yield msgspec.structs.replace(_SIMULATED, where=document.where(("safety", "simulation_mode")))
    for note in notes(_config(document)):
        yield msgspec.structs.replace(note, where=document.where(("safety", "simulation_mode")))


def _plain(document: Document) -> Config:
    return msgspec.convert(_without_nothing(document.value), Config)


def _config(document: Document) -> Config:
    """With the aliases of the seeds worked in."""
    config = _plain(document)
    safety: SafetyConfig = config.safety
    mode = "advise" if safety.simulation_mode and safety.mode == "act" else safety.mode
    protected = tuple(dict.fromkeys((*safety.protected, *safety.protected_patterns)))
    joined = msgspec.structs.replace(safety, mode=mode, protected=protected, protected_patterns=())
    return msgspec.structs.replace(config, safety=joined)


def _impossible(config: Config) -> Iterator[tuple[Place, str, str]]:
    """Values of the right type that can't be: (place, what, what to do)."""
    agent, store, hub, log = config.agent, config.store, config.hub, config.log
    above: list[tuple[Place, float | None]] = [
        (("agent", "interval_s"), agent.interval_s),
        (("agent", "snapshot_s"), agent.snapshot_s),
        (("store", "raw_days"), store.raw_days),
        (("store", "snapshot_days"), store.snapshot_days),
        (("store", "hour_days"), store.hour_days),
        (("store", "flush_s"), store.flush_s),
        (("log", "max_bytes"), log.max_bytes),
        (("ledger", "witness_interval_s"), config.ledger.witness_interval_s),
        (("ledger", "witness_timeout_s"), config.ledger.witness_timeout_s),
    ]
    for name, probe in agent.probes.items():
        above += [(("agent", "probes", name, "interval_s"), probe.interval_s)]
        above += [(("agent", "probes", name, "timeout_s"), probe.timeout_s)]
    for place, value in above:
        if value is not None and not 0 < value < float("inf"):
            yield place, f"{documents.shown(place)} is {value:g}", "give a number above 0"
    if agent.snapshot_s < agent.interval_s:
        yield ("agent", "snapshot_s"), "agent.snapshot_s is shorter than agent.interval_s", "make it a multiple of it"
    if not 0 <= hub.port <= 65535:
        yield ("hub", "port"), f"hub.port is {hub.port}", "give a port from 1 to 65535 (0: any free one)"
    if log.keep < 0:
        yield ("log", "keep"), f"log.keep is {log.keep}", "give 0 or more"
    for index, uid in enumerate(agent.admins):
        if uid < 0:
            yield ("agent", "admins", index), f"agent.admins[{index}] is {uid}", "give a uid, which is 0 or more"
    yield from _impossible_workloads(config)
    for name, index, inner, what, fix in mistakes(config.intent):
        yield (name, index) if inner is None else (name, index, "match", inner), what, fix


def _impossible_workloads(config: Config) -> Iterator[tuple[Place, str, str]]:
    names: set[str] = set()
    for index, spec in enumerate(config.workloads):
        place: Place = ("workloads", index)
        if spec.name in names:
            yield (*place, "name"), f"two workloads are named {spec.name}", "rename one"
        names.add(spec.name)
        if not spec.name or not all(letter.isalnum() or letter in "-_." for letter in spec.name):
            yield (*place, "name"), f"{spec.name!r} can't name a workload", "use letters, digits, - _ and ."
        if not spec.argv:
            yield (*place, "argv"), f"the workload {spec.name} has no command", "give argv: [program, argument, ...]"
        if not 0 <= spec.min_workers <= spec.workers <= spec.max_workers:
            what = f"the workload {spec.name} has workers {spec.workers} outside {spec.min_workers} to {spec.max_workers}"
            yield (*place, "workers"), what, "keep min_workers <= workers <= max_workers"
        if spec.port is not None and not 1 <= spec.port <= 65536 - max(spec.max_workers, 1):
            yield (*place, "port"), f"the workload {spec.name} has port {spec.port}", "port + max_workers must stay below 65536"
        for key in ("stop_grace_s", "start_grace_s", "backoff_s", "backoff_max_s"):
            if getattr(spec, key) < 0:
                yield (*place, key), f"{key} of the workload {spec.name} is below 0", "give 0 or more"
        if spec.health and (spec.health.interval_s <= 0 or spec.health.timeout_s <= 0 or spec.health.failures < 1):
            yield (*place, "health"), f"the health check of {spec.name} can't run", "give times above 0 and failures >= 1"


def _without_nothing(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nothing(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nothing(item) for item in value]
    return value


def _home(environ: Mapping[str, str]) -> str:
    return environ.get("HOME") or str(Path("~").expanduser())


def _if_file(path: str) -> str:
    return path if Path(path).is_file() else ""
