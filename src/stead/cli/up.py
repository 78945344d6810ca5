"""`stead up`: agent and hub as child processes of one command, and what they do as short lines.

The order: check what can be known before anything starts (an agent that runs already, a port in use), start the agent,
say each station as it comes up, start the hub, say the address, follow, and on a signal stop the hub and then the agent.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from stead.cli.children import Child, Signals, died, first_ended, stop_all
from stead.cli.doctor import port_refused
from stead.cli.follow import TOPICS, Follower
from stead.cli.look import tick_mark
from stead.cli.processes import argv_of
from stead.cli.table import printable, styled
from stead.cli.verb import as_json
from stead.cli.verb import say as print_line
from stead.cli.words import plural
from stead.config import load_config
from stead.model.config import Paths
from stead.model.errors import EXIT_OK, EXIT_TIMEOUT, SteadError
from stead.model.messages import Event, FindingList, GetStatus, ListFindings, ListRuns, RunList, Station, Status
from stead.wire import Door, Feed

T = TypeVar("T")
ROAD: Final = ("observe", "find", "propose", "decide", "act", "verify", "record")
AGENT_S: Final = 30.0  # until the agent answers (it recovers unfinished runs first)
STATIONS_S: Final = 20.0  # until each station has said something
HUB_S: Final = 30.0  # until the hub is ready
LOOK_S: Final = 0.05
RESTORE_S: Final = 60.0  # for putting back what leases held
END_S: Final = 1.0  # between a broken connection and the end of the process behind it
PAUSE_S: Final = 0.5  # the longest that a signal or the end of a child goes unnoticed


class Plan(msgspec.Struct, frozen=True):
    """What to start, and where it will be."""

    paths: Paths
    bind: str
    port: int
    agent: tuple[str, ...]
    hub: tuple[str, ...]
    environ: dict[str, str]
    workloads: tuple[str, ...] = ()  # whose workers outlive the agent

    @property
    def address(self) -> str:
        """The page's address."""
        host = "127.0.0.1" if self.bind in ("", "0.0.0.0") else "[::1]" if self.bind == "::" else self.bind  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{self.port}"


def plan_up(
    state: str | None, port: int | None, mode: str | None, config: str | None, environ: Mapping[str, str] = os.environ
) -> Plan:
    """Work out what to start. SteadError for a broken configuration."""
    env = dict(environ)
    if port is not None:
        env["STEAD_HUB__PORT"] = str(port)
    loaded, paths = load_config(config_path=config, state_dir=state, environ=env)
    agent = argv_of("stead.agent", state=state, config=config, mode=mode)
    hub = argv_of("stead.hub", state=state, config=config)
    workloads = tuple(one.name for one in loaded.workloads)
    return Plan(paths, loaded.hub.bind, loaded.hub.port, tuple(agent), tuple(hub), env, workloads)


class Stopped(Exception):  # noqa: N818 - not an error
    """A signal asked for the end."""


class Up:
    """One `stead up`, from start to stop."""

    def __init__(self, plan: Plan, *, as_json: bool = False, say: Callable[[str], None] | None = None) -> None:
        self.plan, self.json = plan, as_json
        self._print = say or print_line
        self._children: list[Child] = []
        self._follower = Follower()
        self._door = Door(plan.paths.socket)

    def run(self) -> int:
        """Start, follow, stop; give the exit code. SteadError when something ended by itself or never came up."""
        self._refuse_what_cannot_work()
        with Signals(self._children) as self._signals:
            try:
                self._start()
                self._follow()
            except Stopped:
                pass
            except BaseException as error:
                if not self._signals.count:
                    self._give_up(error)
            self._say("\nstopping")
            return self._stop()

    def _say(self, line: str) -> None:
        """Print one line for people; a program gets JSON only."""
        if not self.json:
            self._print(line)

    def _tell(self, event: dict[str, object] | Event) -> None:
        """Print one JSON line for a program."""
        if self.json:
            self._print(as_json(event, indent=False))

    def _refuse_what_cannot_work(self) -> None:
        """Two agents on one state, or a port in use. SteadError; nothing was started then."""
        running = self._status()
        if running is not None:
            what = f"an agent already runs on {self.plan.paths.state} (pid {running.pid}, mode {running.mode})"
            fix = "use it (`stead status`; `stead hub` serves the page), stop it first, or choose another --state"
            raise SteadError(what, "", fix, code="up.already-running")
        why_not = port_refused(self.plan.bind, self.plan.port)
        if why_not:
            what = f"port {self.plan.port} of {self.plan.bind} {why_not}"
            raise SteadError(what, "", "choose another with --port, or stop what listens there", code="up.port-in-use")

    def _start(self) -> None:
        """Start both, and say each station as it comes up."""
        self._children.append(Child("agent", self.plan.agent, self.plan.environ))
        first = self._await(self._status, AGENT_S, "agent")
        self._say(f"stead {first.version} on {first.host}, state {self.plan.paths.state}, agent pid {first.pid}")
        self._say_stations()
        self._children.append(Child("hub", self.plan.hub, self.plan.environ))
        self._await(self._hub_answers, HUB_S, "hub")
        self._say_station(Station("hub", True, f"{self.plan.address} (pid {self._children[-1].pid})"))
        self._say_address(first)

    def _status(self) -> Status | None:
        """The agent's status; None while none answers."""
        try:
            return self._door.ask(GetStatus(), Status)
        except SteadError as error:
            if error.problem.code in ("agent.unreachable", "agent.lost"):
                return None
            raise

    def _hub_answers(self) -> bool | None:
        """True once the hub answers; None until then."""
        return True if hub_answers(self.plan.bind, self.plan.port) else None

    def _say_stations(self) -> None:
        """One line a station, when it is known to be well or ill; what is still unknown at the end is said to be so."""
        waiting = list(ROAD)
        deadline = time.monotonic() + STATIONS_S
        while waiting:
            status = self._door.ask(GetStatus(), Status)
            late = time.monotonic() >= deadline
            while waiting and (station := road_station(status, waiting[0], late=late)) is not None:
                self._say_station(station)
                waiting.pop(0)
            self._check()
            time.sleep(LOOK_S if waiting else 0)

    def _say_station(self, station: Station) -> None:
        mark, style = tick_mark(station.ok)
        self._say(f"{styled(mark, style)} {station.name:<8} {printable(station.detail)}".rstrip())

    def _say_address(self, status: Status) -> None:
        """Where the page is, how to enter, how to stop."""
        token = _token(Path(self.plan.paths.token))
        address = f"{self.plan.address}/{f'#{token}' if token else ''}"
        self._tell({"kind": "ready", "address": self.plan.address, "token_file": self.plan.paths.token, "mode": status.mode})
        self._say(f"\n  {styled(address, 'bold')}")
        self._say(f"  the token is in {self.plan.paths.token}; Ctrl-C stops both")
        if status.mode != "act":
            self._say(f"  mode {status.mode}: nothing on this host is changed until `stead mode act`")
        self._say("")

    def _follow(self) -> None:
        """Show what happens until a signal or the end of a child. A listener that fell behind is cut off, and listens again."""
        while True:
            try:
                self._listen(self._follower)
            except SteadError as error:
                self._await_end(END_S)
                self._door.close()  # it may be cut off as well
                if error.problem.code != "agent.lost" or self._status() is None:
                    raise

    def _listen(self, follower: Follower) -> None:
        """One subscription: what was so before it, then each event."""
        feed = Feed(self.plan.paths.socket, TOPICS)
        try:
            self._catch_up(follower)
            while True:
                self._check()
                event = feed.next(PAUSE_S)
                if event is None:
                    continue
                self._tell(event)
                for line in follower.lines(event):
                    self._say(line)
        finally:
            feed.close()

    def _await_end(self, timeout_s: float) -> None:
        """Give a child that is about to end the time to do so: its reason says more than its silence."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self._check()
            time.sleep(LOOK_S)

    def _catch_up(self, follower: Follower) -> None:
        """What was so before we listened: open findings, and runs that are not over."""
        follower.status(self._door.ask(GetStatus(), Status))
        findings = self._door.ask(ListFindings(), FindingList).findings
        lines = [line for finding in findings for line in follower.finding(finding)]
        open_ids = {finding.id for finding in findings}
        for run in reversed(self._door.ask(ListRuns("all", 50), RunList).runs):
            told = follower.run(run)
            if not run.final or run.proposal.finding_id in open_ids:
                lines += told
        for line in lines:
            self._say(line)

    def _await(self, look: Callable[[], T | None], timeout_s: float, name: str) -> T:
        """Look until there is something. SteadError when it takes too long or a child ends."""
        deadline = time.monotonic() + timeout_s
        while (found := look()) is None:
            self._check()
            if time.monotonic() >= deadline:
                fix = f"see its log in {self.plan.paths.log}"
                what = f"the {name} did not answer within {timeout_s:g} s"
                raise SteadError(what, "", fix, code=f"up.{name}-silent", exit_code=EXIT_TIMEOUT)
            time.sleep(LOOK_S)
        return found

    def _check(self) -> None:
        """Stopped when a signal came; SteadError when a child has ended by itself."""
        if self._signals.count:
            raise Stopped
        ended = first_ended(self._children)
        if ended is not None:
            raise died(ended)

    def _give_up(self, error: BaseException) -> None:
        """Stop what runs, and raise what is most telling: the end of a child explains why it fell silent."""
        try:
            if isinstance(error, SteadError):
                self._await_end(END_S)
        finally:
            stop_all(self._children)
        raise error

    def _stop(self) -> int:
        """Stop both, put back what only leases held, and say how it went."""
        leased = len(self._follower.leased)  # as last told: the agent may have ended on the same signal
        killed, why = stop_all(self._children), "did not stop in time and had to be killed"
        if self._signals.count > 1:
            killed, why = [child for child in self._children if child.code == 128 + signal.SIGKILL], "killed by a second signal"
        if killed:
            self._put_back(leased)
            what, fix = f"{' and '.join(child.name for child in killed)} {why}", "what was under way is settled at the next start"
            raise SteadError(what, "", fix, code="up.killed", exit_code=EXIT_TIMEOUT)
        ill = next((child for child in self._children if child.code not in (EXIT_OK, 128 + signal.SIGTERM)), None)
        if ill is not None:
            raise died(ill)
        self._say(f"{' and '.join(child.name for child in reversed(self._children)) or 'nothing'} stopped cleanly")
        self._put_back(leased)
        if self.plan.workloads:
            self._say(f"the workers of {', '.join(self.plan.workloads)} go on; the next start takes them over")
        return EXIT_OK

    def _put_back(self, leased: int) -> None:
        """A lease ends with its agent: `up` does what a service manager does after the stop. SteadError when it can't."""
        if not leased:
            return
        try:
            code = subprocess.run(
                [*self.plan.agent, "--restore"], env=self.plan.environ, timeout=RESTORE_S, check=False
            ).returncode
        except (OSError, subprocess.TimeoutExpired):
            code = None
        if code != EXIT_OK:
            what = f"{plural(leased, 'change')} under a lease could not be put back"
            raise SteadError(
                what, "", "the next start puts back what is overdue; `stead runs` then lists the rest", code="up.restore"
            )
        self._say(f"{plural(leased, 'change')} under a lease put back")


def road_station(status: Status, name: str, *, late: bool) -> Station | None:
    """One station of the road as it is said; None while it may still become known."""
    found = next((one for one in status.stations if one.name == name), Station(name, None, ""))
    if found.ok is None and not late:
        return None
    details = {"observe": _probes(status.stations), "decide": f"mode {status.mode}", "record": status.state_dir}
    detail = found.detail or details.get(name, "") if found.ok is not None else f"unknown{found.detail and ': '}{found.detail}"
    return Station(name, found.ok, detail)


def _probes(stations: tuple[Station, ...]) -> str:
    """How many probes there are, and which are ill."""
    probes = [one for one in stations if one.name.startswith(("probe ", "probe:"))]
    ill = [one.name[6:] for one in probes if one.ok is False]
    return f"{len(probes)} probes" + (f", without an answer: {', '.join(ill)}" if ill else "")


def hub_answers(bind: str, port: int) -> bool:
    """Does GET /healthz answer 200?"""
    from http.client import HTTPConnection, HTTPException

    connection = HTTPConnection({"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind, bind), port, timeout=2)  # noqa: S104
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _token(path: Path) -> str:
    """The hub's token; empty when this user may not read it."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
