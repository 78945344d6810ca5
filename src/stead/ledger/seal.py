"""Sealing by systemd-creds: a secret that only this machine opens (its TPM, or a key that root alone reads).

Only where systemd runs the machine: in a container the sealing key would be lost with the container, and the state is
often kept without it. The secret goes in and comes out by pipes.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, Final

from stead.model.errors import SteadError
from stead.protocols import Completed, Host

_TIMEOUT_S: Final = 10.0
_BOOTED: Final = "/run/systemd/system"


class SystemdCreds:
    """key_files.Sealer, through the host's door."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def seal(self, name: str, secret: bytes) -> bytes | None:
        """The sealed form, once it was opened again; None: systemd does not run here, or it can't seal."""
        if not self._booted():
            return None
        done = self._run("encrypt", name, secret)
        if done is None or done.rc != 0 or not done.out:
            return None
        sealed = done.out.encode()
        again = self._run("decrypt", name, sealed)
        return sealed if again is not None and again.rc == 0 and again.out.encode() == secret else None

    def unseal(self, name: str, sealed: bytes) -> bytes:
        """The secret. SteadError `ledger.key-sealed`: it was sealed by another machine, or systemd-creds is gone."""
        done = self._run("decrypt", name, sealed)
        if done is None or done.rc != 0:
            why = "it can't be run" if done is None else "it took too long" if done.rc is None else done.err.strip()[-200:]
            raise SteadError(
                f"systemd-creds can't open the ledger's key: {why}",
                name,
                "start stead on the machine that sealed it, as root, or move ledger.db away: then stead begins a new log",
                code="ledger.key-sealed",
            )
        return done.out.encode()

    def _booted(self) -> bool:
        try:
            self._host.list(_BOOTED)
        except OSError:
            return False
        return True

    def _run(self, verb: str, name: str, data: bytes) -> Completed | None:
        try:
            return _finish(self._host.run(["systemd-creds", verb, f"--name={name}", "-", "-"], _TIMEOUT_S, data))
        except OSError:
            return None


def _finish(work: Coroutine[Any, Any, Completed]) -> Completed:
    """Run it to its end on a thread of its own: at wiring there is no loop yet, and later it must not wait for itself."""
    result: list[Completed] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            result.append(asyncio.run(work))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="seal")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return result[0]
