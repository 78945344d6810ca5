"""The agent's life: wire, recover, open the door, tick until told to stop.

Order matters: recovery comes before the first tick, the door opens once recovery is done, and the service manager hears
READY after the first tick. A tick that fails is logged and the next one comes; a ledger that can't be written stops acting.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

from stead.agent.answers import Answers
from stead.agent.door import Doorkeeper
from stead.agent.supervisor import Supervisor
from stead.agent.tidying import tidy_for_ever
from stead.agent.wake import Wake
from stead.agent.wiring import Wired, wire
from stead.config import load_config
from stead.model.errors import EXIT_FAILURE, EXIT_OK, SteadError
from stead.model.observe import Now

STOP_S: Final = 10.0
TELL_AGAIN_MS: Final = 60_000


async def serve(wired: Wired, *, ready: asyncio.Event | None = None) -> None:
    """Run until cancelled."""
    now = wired.clock.now()
    answers = Answers(wired, now.unix_ms)
    door = Doorkeeper(
        wired.paths.socket, answers.answer, wired.bus, wired.hub_key, wired.config.agent.admins, wired.ours, wired.hubs
    )
    supervisor = Supervisor(os.environ)
    await wired.vouching.witnesses.begin()
    beside = (
        asyncio.create_task(wired.vouching.witnesses.run()),
        asyncio.create_task(tidy_for_ever(wired.ledger, wired.config.ledger.keep_days, wired.log)),
    )
    try:
        await begin(wired)
        await door.open()
        await tick_for_ever(wired, supervisor, ready)
    finally:
        supervisor.stopping()
        for task in beside:
            task.cancel()
        await door.close()
        await end(wired)


async def begin(wired: Wired) -> None:
    """Recover, before the first tick; later if the ledger may not record anything yet (a witness knows better, say)."""
    if not wired.began and wired.ledger.stopped is None:
        await wired.road.start(wired.clock.now())
        wired.began = True


async def end(wired: Wired) -> None:
    """Let what acts come to a rest. A ledger that was stopped can't say so, and has said why."""
    if wired.began:
        try:
            await asyncio.wait_for(wired.road.stop(wired.clock.now()), STOP_S)
        except SteadError:
            if wired.ledger.stopped is None:
                raise


async def tick(wired: Wired, now: Now) -> None:
    """One tick. Before recovery, while nothing may be recorded, what is seen is kept and nothing else is done."""
    if not wired.began and wired.ledger.stopped is not None:
        wired.road.observe(now)
        raise SteadError.of(wired.ledger.stopped.problem)
    await begin(wired)
    await wired.road.tick(now)


async def tick_for_ever(wired: Wired, supervisor: Supervisor, ready: asyncio.Event | None) -> None:
    """One tick an interval on a fixed grid; ticks that were missed (a suspended machine) are not made up for.

    Between them there are ticks where a probe's alarms call for one (`agent.wake`).
    """
    loop = asyncio.get_running_loop()
    interval_s = wired.config.agent.interval_s
    observer = wired.road.plugged.observer
    wake = Wake([watch.probe for watch in observer.watches], observer.hasten)
    due = loop.time()
    first = True
    try:
        while True:
            await tick_once(wired, supervisor)
            if first:
                first = False
                gc.collect()
                gc.freeze()  # what is there now stays: later collections need not look at it
                supervisor.ready()
                if ready is not None:
                    ready.set()
            due = max(due + interval_s, loop.time())
            wake.follow()
            while await wake.before(due):
                await tick_once(wired, supervisor)
                wake.follow()
    finally:
        wake.close()


async def tick_once(wired: Wired, supervisor: Supervisor) -> None:
    """One tick, whatever becomes of it: what fails is told, and the watchdog hears of ticks that were completed."""
    now = wired.clock.now()
    try:
        await tick(wired, now)
    except SteadError as error:  # a full disk, say: a restart would not mend it, so the watchdog hears that we live
        note(wired, str(error), now)
        supervisor.tick(now.mono_ms)
    except Exception as error:
        note(wired, f"{type(error).__name__}: {error}", now, trace=True)
    else:
        note(wired, "", now)
        supervisor.tick(now.mono_ms)


def note(wired: Wired, why: str, now: Now, *, trace: bool = False) -> None:
    """Keep why a tick failed ("" when it did not) for the status; log it when it is new, and then once a minute."""
    if why:
        wired.road.note_failure(why)
    told, at_ms = wired.told
    if why == told and (not why or now.mono_ms - at_ms < TELL_AGAIN_MS):
        return
    wired.told = (why, now.mono_ms)
    if why:
        wired.log.error("tick failed", why=why, exc_info=trace)
    else:
        wired.log.info("ticks succeed again", was=told)


async def run(wired: Wired) -> None:
    """Serve until SIGTERM or SIGINT."""
    task = asyncio.ensure_future(serve(wired))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return


async def restore(wired: Wired) -> None:
    """Put back what only a lease holds, then end: for the service manager, after the agent stopped."""
    now = wired.clock.now()
    if wired.ledger.stopped is not None:
        raise SteadError.of(wired.ledger.stopped.problem)
    await wired.road.start(now)
    await wired.road.restore_leases()
    await wired.road.stop(wired.clock.now())


def main(argv: Sequence[str]) -> int:
    """Parse the few options, run, and turn what went wrong into one sentence and an exit code."""
    parser = argparse.ArgumentParser(
        prog="stead agent", description="Observe, find, propose, decide, act, verify and record on this host."
    )
    parser.add_argument("--state", default=None, help="state directory (else STEAD_STATE_DIR, /var/lib/stead as root)")
    parser.add_argument("--config", default=None, help="configuration file (else /etc/stead/stead.yaml)")
    parser.add_argument("--mode", default=None, choices=("observe", "advise", "act"), help="mode, if this state has none yet")
    parser.add_argument("--restore", action="store_true", help="put back what only a lease holds, then end")
    options = parser.parse_args(argv)
    try:
        config, paths = load_config(config_path=options.config, state_dir=options.state)
        wired = wire(config, paths, first_mode=options.mode)
        try:
            asyncio.run(restore(wired) if options.restore else run(wired))
        finally:
            wired.close()
    except SteadError as error:
        print(f"stead agent: {error.problem}", file=sys.stderr)
        return error.problem.exit_code or EXIT_FAILURE
    return EXIT_OK
