"""A whole road on dials: a gauge that tests set, dials that playbooks turn, the shipped catalogue beside them, a real ledger."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec

from stead.actuators import autonomy
from stead.actuators.autonomy_file import AutonomyFile
from stead.agent.road_probe import RoadProbe
from stead.catalog import load_catalog, load_policy
from stead.detectors.band import BandDetector
from stead.flow.act import Hands
from stead.flow.observe import Observer
from stead.flow.orders import Orders
from stead.flow.pipeline import Road
from stead.flow.place import Place, Plugged
from stead.ledger.store import LedgerStore
from stead.model.catalog import (
    Catalog,
    Exit,
    MetricCatalogEntry,
    PlaybookDefinition,
    Predict,
    Range,
    SettingTemplate,
    Thresholds,
    Verify,
)
from stead.model.change import Run
from stead.model.config import Config
from stead.model.observe import Fact, MetricSpec, Now, Reading, Sample
from stead.model.policy import Autonomy, Budget, Policy
from stead.protocols import Host
from stead.stats.series import Series
from stead.testing import FakeClock, FakeHost
from tests.flow.bench import Heard
from tests.flow.kit import Dial, Dials, counter

LOAD, DELAY = "m.load", "m.delay"
HIGH = Thresholds(good=(Range(upper=1.0),), warning=(Range(lower=1.0),))


class Gauge:
    """A probe of what the test says. (metric, subject) → value, read each second."""

    name, interval_s, timeout_s, blocking = "gauge", 1.0, 1.0, False
    metrics = (MetricSpec(LOAD, "count", "load"), MetricSpec(DELAY, "count", "what the load does to others"))

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], float] = {}
        self.facts: list[Fact] = []

    def read(self, host: Host, now: Now) -> Reading:
        return Reading(
            tuple(Sample(metric, subject, value) for (metric, subject), value in self.values.items()), tuple(self.facts)
        )


class Driver:
    """Names the dials as workloads, so that they have an identity."""

    kind = "dials"

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def names(self) -> Sequence[str]:
        return self._names

    def status(self, name: str) -> Any:
        return SimpleNamespace(id=f"id-{name}")

    async def tick(self, now: Now) -> None: ...


class Silent:
    """A log and a raw store that keep nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **more: None


def metric(name: str, **more: Any) -> MetricCatalogEntry:
    return MetricCatalogEntry(name, "test", name, "count", recommended_interval_seconds=1.0, clear_s=0.0, **more)


def turn(name: str = "turn", level: int = 9, **more: Any) -> PlaybookDefinition:
    """A playbook that turns the dial of its finding, under a lease of 100 s, and is judged after 10 s."""
    fields: dict[str, Any] = dict(
        risk="low",
        tier=1,
        answers=(LOAD,),
        settings=(SettingTemplate("dial", {"level": level}, lease_s=100.0),),
        predict=Predict(DELAY, "down", 0.3, within_s=5.0, meaningful=0.5),
        verify=Verify(window_s=10.0, good_readings=1),
        cooldown_s=20.0,
    )
    return PlaybookDefinition(name, **{**fields, **more})


class Lane:
    """One host's road and what it runs on. `open` again is a restart: only what is durable is left."""

    def __init__(self, tmp_path: Path, *playbooks: PlaybookDefinition, ceiling: int = 1, budget: int = 100) -> None:
        self.path, self.clock, self.gauge, self.new_id = tmp_path, FakeClock(), Gauge(), counter("i")
        self.dials = Dials(**{name: Dial(1) for name in "abcdef"})
        shipped = load_catalog("", known_metrics=None, actuators={"dial", "autonomy"})
        metrics = {**shipped.metrics, LOAD: metric(LOAD, thresholds=HIGH, exit=Exit(warning=0.5)), DELAY: metric(DELAY)}
        made = playbooks or (turn(),)
        self.catalog = Catalog(metrics, {**shipped.playbooks, **{one.playbook_id: one for one in made}}, "v")
        self.policy: Policy = msgspec.structs.replace(load_policy(), budget=Budget(actions_per_hour=budget))
        self.kept = AutonomyFile(tmp_path, tmp_path / "pause", Autonomy("act", {"host": ceiling}))
        self.host = FakeHost(tmp_path, name="host1")
        self.open()

    def open(self) -> None:
        self.ledger = LedgerStore.open(self.path / "ledger.db", "host1", self.clock)
        probe = RoadProbe(lambda limit: self.ledger.runs("runs", limit), lambda: self.road.waiting())
        observer = Observer([self.gauge, probe], self.host)
        series = Series(observer.specs(), self.catalog)
        actuators: dict[str, Any] = {"dial": self.dials, "autonomy": autonomy.actuator(self.kept)}
        bus, quiet = Heard(), Silent()
        self.hands = Hands(self.host, actuators, self.ledger, bus, self.clock, self.policy, self.kept.stopped, new_id=self.new_id)
        place = Place(
            host=self.host,
            name="host1",
            clock=self.clock,
            ledger=self.ledger,
            bus=bus,
            hands=self.hands,
            autonomy=self.kept,
            raw=quiet,
            log=quiet,
            moved=probe.note_change,
            new_id=self.new_id,
            own=dict,
        )
        plugged = Plugged(observer, (BandDetector(),), actuators, {"dials": Driver("abcdef")})
        self.road = Road(plugged, place, series, self.catalog, self.policy, Config(), default_ceiling=1)
        self.orders = Orders(self.road)

    async def again(self) -> None:
        """As after a kill."""
        self.ledger.close()
        self.open()
        await self.road.start(self.clock.now())

    def show(self, load: float, delay: float | None, dial: str = "a") -> None:
        """What the gauge reads from now on of a dial's load, and of what others suffer from it (None: not known).

        The first time it has been so for five seconds already: without anything to compare with no effect could be told.
        """
        subject = f"workload:{dial}"
        if delay is not None and not self.gauge.values and not len(self.road.series):
            now = self.clock.now()
            for ago_ms in range(5000, 0, -1000):
                self.road.series.add([Sample(DELAY, subject, delay)], Now(now.unix_ms - ago_ms, now.mono_ms - ago_ms))
        self.gauge.values[LOAD, subject] = load
        self.gauge.values.pop((DELAY, subject), None)
        if delay is not None:
            self.gauge.values[DELAY, subject] = delay

    async def tick(self, seconds: int = 1) -> None:
        """Let time pass, a tick a second; each tick's tasks come to their end."""
        for _ in range(seconds):
            await self.road.tick(self.clock.advance(1000))
            await self.road.tasks.finish()

    async def heal(self) -> None:
        """From the start: a load that others suffer from, turned down, and proven to help."""
        await self.road.start(self.clock.now())
        self.show(2.0, 3.0)
        await self.tick(3)
        self.show(2.0, 0.2)
        await self.tick(15)

    def runs(self, playbook: str = "turn") -> list[Run]:
        """A playbook's runs, oldest first."""
        known = [run for run in self.ledger.runs("all", 500) if run.proposal.playbook == playbook]
        return sorted(known, key=lambda run: int(run.id.removeprefix("i-")))

    def states(self, playbook: str = "turn") -> list[str]:
        return [run.state for run in self.runs(playbook)]

    def level(self, dial: str = "a") -> int | None:
        return self.dials.dials[dial].level
