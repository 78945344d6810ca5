"""The agent's one wiring function: from configuration to a road that is ready to tick.

Everything that can be wrong with a place (a lock held, a database from a newer version, a read-only directory) is
found here, before anything runs, as one sentence.
"""

from __future__ import annotations

import errno
import os
import time
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from stead import plugins
from stead.actuators.autonomy_file import AutonomyFile
from stead.agent.bus import LocalBus
from stead.agent.crash import mark_from
from stead.agent.log import open_log
from stead.agent.raw_writer import RawWriter
from stead.agent.road_probe import RoadProbe
from stead.agent.series_store import SeriesStore
from stead.agent.witness_wiring import Vouching
from stead.catalog import load_catalog, load_policy
from stead.config import impossible_aims
from stead.documents import shown, wrong
from stead.files.cleaner import Cleaner
from stead.flow.act import Hands
from stead.flow.observe import Observer
from stead.flow.orders import Orders
from stead.flow.pipeline import Road
from stead.flow.place import Place, Plugged
from stead.host import LocalHost, SystemClock
from stead.host.local import person_name
from stead.ledger.key_files import KeyFiles
from stead.ledger.keys import KeyRing
from stead.ledger.leaf import uuid7
from stead.ledger.seal import SystemdCreds
from stead.ledger.store import LedgerStore
from stead.model.catalog import Catalog
from stead.model.config import Config, Paths
from stead.model.errors import SteadError
from stead.model.messages import QuerySeries, SeriesAnswer, Station
from stead.model.policy import PROFILE_CEILINGS, Autonomy, Policy
from stead.probes.members import Members
from stead.probes.proc_table import Table
from stead.protocols import Probe
from stead.stats.series import Series
from stead.wire.secret import load_key
from stead.workloads.process import ProcessWorkloads

LEFT_ALONE: Final = "it is neither to be protected nor best effort, so it is left alone"


class Wired:
    """What `wire` made: the road and everything around it."""

    def __init__(self, config: Config, paths: Paths, clock: SystemClock, host: LocalHost) -> None:
        self.config, self.paths, self.clock, self.host = config, paths, clock, host
        self.host_name = config.agent.host_name or host.name
        self.bus = LocalBus()
        self.log = open_log(Path(paths.log) / "stead.log", config.log)
        self.hub_key = load_key(paths.hub_key)
        self.broken: dict[str, str] = {}
        self.drivers: dict[str, Any] = {}
        self.road: Road
        self.orders: Orders
        self.hubs: Counter[int] = Counter()  # connections of pids that proved themselves as our hub
        self.ledger: LedgerStore
        self.vouching: Vouching
        self.members = Members(config.intent)  # who is meant by the intent now; the probes bring it up to date
        self.cleaner: Cleaner
        self.raw: RawWriter
        self.autonomy: AutonomyFile
        self.began = False  # is recovery done, so that the road may tick?
        self.told = ("", 0)  # the failure of a tick that was logged last, and when

    def ours(self, pid: int) -> bool:
        """Was this process started by one of our workloads?"""
        return any(driver.owns(pid) for driver in self.drivers.values())

    def own(self) -> dict[str, str]:
        """Stead's own processes, which nothing may touch: pid → what it is."""
        ours = {str(os.getpid()): "stead's agent", **{str(pid): "stead's hub" for pid, count in self.hubs.items() if count > 0}}
        if "STEAD_UP_PID" in os.environ:
            ours[os.environ["STEAD_UP_PID"]] = "stead up"
        return ours

    def spares(self, subject: str) -> str:
        """Why stead of itself leaves a process or a group alone: with an intent in force it is named by neither of its lists.

        What is protected is not made slower by any actuator, and may be given more.
        """
        intended = bool(self.config.intent.protect) and subject.partition(":")[0] in ("process", "cgroup")
        return LEFT_ALONE if intended and not self.members.names(subject) else ""

    def readings(self, metric: str, subject: str, last_s: float) -> list[float]:
        """The known values of the last … seconds, oldest first: what an objective is held against."""
        if not hasattr(self, "road"):
            return []
        now = self.clock.now().mono_ms
        values: list[float] = self.road.series.readings(metric, subject, now - last_s * 1000, now)
        return values

    async def query(self, body: QuerySeries) -> SeriesAnswer:
        """One series over a range."""
        return await self.raw.query(body)

    def stations(self) -> tuple[Station, ...]:
        """The health of each station and probe."""
        broken = tuple(Station(f"plugin {name}", False, why) for name, why in self.broken.items())
        autonomy = (Station("autonomy", False, self.autonomy.problem),) if self.autonomy.problem else ()
        return (*self.road.stations(), *self.raw.stations(), *self.vouching.stations(), *autonomy, *broken)

    def close(self) -> None:
        """Let go of stores and locks, of both whatever becomes of one. SteadError: the last samples could not be written."""
        try:
            if hasattr(self, "raw"):
                self.raw.close()
        finally:
            if hasattr(self, "ledger"):
                self.ledger.close()
            if hasattr(self, "vouching"):
                self.vouching.standing.settle()


def wire(config: Config, paths: Paths, *, first_mode: str | None = None, environ: Mapping[str, str] = os.environ) -> Wired:
    """Make the agent of this configuration. Raises SteadError; nothing on the host has been changed then."""
    policy = load_policy(paths.policy or config.policy, protected=config.safety.protected, solo=config.safety.solo)
    prepare(paths)
    wired = Wired(config, paths, SystemClock(), LocalHost())
    try:
        assemble(wired, policy, first(config, first_mode), environ)
    except BaseException:
        wired.close()
        raise
    return wired


def assemble(wired: Wired, policy: Policy, begin: Autonomy, environ: Mapping[str, str]) -> None:
    """Open the stores and put the road together."""
    config, paths, clock, host = wired.config, wired.paths, wired.clock, wired.host
    state = Path(paths.state)
    keys = KeyRing(KeyFiles(state / "keys", SystemdCreds(host)), config.ledger.key_overlap_days)
    wired.ledger = LedgerStore.open(state / "ledger.db", wired.host_name, clock, keys=keys)
    wired.vouching = Vouching(config, wired.ledger, host, clock, wired.log, wired.host_name, new_id)
    workloads = ProcessWorkloads(config.workloads, Path(paths.state), host, clock)
    wired.drivers = {workloads.kind: workloads}
    autonomy = wired.autonomy = AutonomyFile(Path(paths.state), Path(paths.pause), begin)
    wired.cleaner = Cleaner(host, paths.state, policy.protected)
    offered = offers(wired, policy)
    actuators = loaded(wired, "stead.actuators", offered)
    catalog = load_catalog(config.catalog, known_metrics=None, actuators=set(actuators))
    wired.cleaner.rule_by(catalog.cleaning)
    probes: list[Probe] = [*loaded(wired, "stead.probes", offered).values()]
    road_probe = RoadProbe(lambda limit: wired.ledger.runs("runs", limit), lambda: wired.road.waiting())
    observer = Observer([*probes, road_probe], host, config.agent.probes, config.agent.interval_s)
    aims = [one.objective.metric for one in config.intent.protect if one.objective]
    series = Series(observer.specs(), catalog, snapshot_s=config.agent.snapshot_s, remember=aims)
    units = units_of(observer, catalog)
    check_aims(config, units)
    wired.raw = RawWriter(SeriesStore(state / "series.db", config.store, snapshot_s=config.agent.snapshot_s, units=units))
    hands = Hands(
        host=host,
        actuators=actuators,
        ledger=wired.ledger,
        bus=wired.bus,
        clock=clock,
        policy=policy,
        paused=autonomy.stopped,
        latest=series.value,
        mark=mark_from(environ),
        new_id=new_id,
        name=wired.host_name,
    )
    detectors = tuple(loaded(wired, "stead.detectors", offered).values())
    wired.road = Road(
        Plugged(observer, detectors, actuators, wired.drivers, wired.cleaner.candidates, wired.spares),
        Place(
            host=host,
            name=wired.host_name,
            clock=clock,
            ledger=wired.ledger,
            bus=wired.bus,
            hands=hands,
            autonomy=autonomy,
            raw=wired.raw,
            log=wired.log,
            moved=road_probe.note_change,
            new_id=new_id,
            own=wired.own,
        ),
        series,
        catalog,
        policy,
        config,
        default_ceiling=PROFILE_CEILINGS[config.safety.profile],
    )
    wired.orders = Orders(wired.road)


def units_of(observer: Observer, catalog: Catalog) -> dict[str, str]:
    """The unit of each metric that there can be here: as the catalogue says, else as its probe does."""
    catalogued = {one.metric_id: one.unit for one in catalog.metrics.values()}
    return {name: spec.unit for name, spec in observer.specs().items()} | catalogued


def check_aims(config: Config, known: Collection[str]) -> None:
    """SteadError for an objective that nothing here tells of."""
    for place, what, fix in impossible_aims(config, known):
        raise wrong(what, shown(place), fix, code="config.objective")


def offers(wired: Wired, policy: Policy) -> dict[str, object]:
    """What plugins may ask for by name."""
    return {
        "host": wired.host,
        "drivers": wired.drivers,
        "autonomy": wired.autonomy,
        "protected": policy.protected,
        "own": wired.own,
        "intent": wired.config.intent,
        "process_table": Table(),
        "readings": wired.readings,
        "members": wired.members,
        "cleaner": wired.cleaner,
    }


def new_id() -> str:
    """A fresh time-ordered id."""
    return uuid7(time.time_ns() // 1_000_000, os.urandom(10))


def first(config: Config, mode: str | None) -> Autonomy:
    """The autonomy that a new state begins with: advise, unless people said otherwise."""
    return Autonomy(mode=mode or config.safety.mode, ceilings={"host": PROFILE_CEILINGS[config.safety.profile]})  # type: ignore[arg-type]


def loaded(wired: Wired, group: str, offered: Mapping[str, object]) -> dict[str, Any]:
    """A group's plugins; the broken ones are remembered for the status."""
    found = plugins.load(group, **offered)
    wired.broken.update(found.broken)
    return found.plugins


def prepare(paths: Paths) -> None:
    """Make the directories: state 0700, run 0711, log 0750. SteadError: somebody else's, not a directory, not writable."""
    for path, mode in ((paths.state, 0o700), (paths.run, 0o711), (paths.log, 0o750)):
        place = Path(path)
        try:
            if not place.is_dir():
                place.mkdir(parents=True)
            found = place.stat()
            if found.st_uid == os.geteuid() and found.st_mode & 0o7777 != mode:
                place.chmod(mode)
            writable = os.access(place, os.R_OK | os.W_OK | os.X_OK)
        except OSError as error:
            raise refused(error, path) from error
        if not writable and found.st_uid != os.geteuid():
            what = f"this belongs to {person_name(found.st_uid)}, and stead was started by {person_name(os.geteuid())}"
            fix = "start stead as that user, or choose another state with --state or STEAD_STATE_DIR"
            raise SteadError(what, path, fix, code="state.not-yours")
        if not writable:
            raise refused(OSError(errno.EROFS, os.strerror(errno.EROFS)), path)


def refused(error: OSError, path: str) -> SteadError:
    """Why a directory of stead's can't be used."""
    elsewhere = "choose another with --state or STEAD_STATE_DIR"
    if isinstance(error, FileExistsError | NotADirectoryError):
        what, fix = "the state must be a directory, and this (or what it is in) is a file", f"move the file away, or {elsewhere}"
        return SteadError(what, path, fix, code="state.not-a-directory")
    what, fix = f"the directory can't be written: {error.strerror}", f"make it writable for stead, or {elsewhere}"
    return SteadError(what, path, fix, code="state.unwritable")
