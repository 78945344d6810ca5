"""An agent's ledger and its witnesses, without HTTP: the other end is a real witness on a real store of its own."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stead.agent.witness_door import REFUSED
from stead.agent.witness_wiring import Vouching
from stead.flow import record
from stead.ledger import tables
from stead.ledger.store import LedgerStore
from stead.ledger.tree import signed
from stead.model.config import Config, LedgerConfig, WitnessConfig
from stead.protocols import Completed
from stead.testing import FakeClock
from stead.tlog.keys import parse_signing_key
from stead.tlog.merkle import leaf_hashes
from stead.tlog.policy import parse_policy
from stead.tlog.tiles import TileTree
from tests.flow.kit import counter


class Log:
    """Keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def info(self, what: str, **more: Any) -> None:
        self.lines.append((what, more))

    warning = error = info


class Network:
    """In place of the child process: hands each request to the agent that the address names."""

    def __init__(self) -> None:
        self.agents: dict[str, Place] = {}
        self.away: set[str] = set()
        self.calls = 0
        self.broken = ""

    async def run(self, argv: Sequence[str], timeout_s: float, stdin: bytes = b"", limit: int = 0) -> Completed:
        assert argv[1:3] == ["-I", "-S"] and argv[3].endswith("submit.py")
        self.calls += 1
        if self.broken:
            return Completed(1, self.broken, "Traceback\nBroken: by a test")
        answers = []
        for one in json.loads(stdin)["requests"]:
            name = one["url"].removeprefix("http://").removesuffix("/add-checkpoint")
            if name in self.away:
                answers.append({"status": 0, "content_type": "", "body": "", "error": "no answer within 3 s"})
                continue
            reply = await self.agents[name].vouching.door.answer(one["body"].encode())
            body = base64.b64encode(reply.body).decode()
            answers.append({"status": reply.status, "content_type": reply.content_type, "body": body, "error": ""})
        return Completed(0, json.dumps(answers), "")


class Place:
    """One host: its state, its store, both sides of witnessing."""

    def __init__(self, folder: Path, name: str, network: Network, clock: FakeClock, config: Config) -> None:
        self.folder, self.name, self.network, self.clock, self.config = folder, name, network, clock, config
        self.stamp = lambda: record.Stamp(name, clock.now(), counter(f"{name}-{os.urandom(3).hex()}-"))
        self.open()

    def open(self) -> Place:
        self.folder.mkdir(exist_ok=True)
        self.store = LedgerStore.open(self.folder / "ledger.db", self.name, self.clock)
        self.log = Log()
        arguments = (self.config, self.store, self.network, self.clock, self.log, self.name)
        self.vouching = Vouching(*arguments, counter(f"{self.name}-{os.urandom(3).hex()}-"))  # type: ignore[arg-type]
        self.network.agents[self.name] = self
        return self

    def close(self) -> None:
        self.store.close()
        self.vouching.standing.settle()

    def reopened(self) -> Place:
        self.close()
        return self.open()

    async def grow(self, count: int = 1, word: str = "noted") -> None:
        await self.store.commit([record.entry(f"test.{word}", self.stamp(), {"n": n}) for n in range(count)])

    async def submit(self) -> None:
        await self.vouching.witnesses._submit(3.0)

    @property
    def code(self) -> str:
        return self.store.stopped.problem.code if self.store.stopped else ""

    def refusals(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(entry.leaf)["body"] for entry in self.store.entries(50, "", (REFUSED,))]


Make = Callable[..., Place]


World = tuple[Place, Place, Network]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[tuple[Place, Place, Network]]:
    """A log `box` that `eye` cosigns, each with a ledger of its own."""
    network, clock = Network(), FakeClock()
    box = Place(tmp_path / "box", "box", network, clock, Config())
    vkeys = box.store.vkeys()
    box.close()
    eye = Place(tmp_path / "eye", "eye", network, clock, Config(witness=WitnessConfig(logs=tuple(vkeys))))
    key = eye.vouching.door.cosigner.key.verifier
    (tmp_path / "policy").write_text(f"witness eye {key.text} http://eye\nquorum eye\n")
    box.config = Config(ledger=LedgerConfig(policy=str(tmp_path / "policy"), witness_interval_s=0.01))
    box.open()
    yield box, eye, network
    box.close()
    eye.close()


def policy(box: Place) -> Any:
    return parse_policy(f"log {box.store.vkeys()[0]}\n".encode() + Path(box.config.ledger.policy).read_bytes())


def remade(box: Place, change: Callable[[sqlite3.Connection], object]) -> None:
    """Change the database and sign it anew with the log's own key, as somebody who has all of it could."""
    origin, vkey = box.store.origin, box.store.vkeys()[0]
    box.close()
    key = parse_signing_key((box.folder / "keys" / f"{vkey.split('+')[1]}.key").read_text().strip())
    db = sqlite3.connect(box.folder / "ledger.db")
    change(db)
    tree = TileTree(lambda level, index: b"")
    tree.append(leaf_hashes([row[0] for row in db.execute("SELECT leaf FROM entries ORDER BY seq")]))
    tables.put_checkpoint(db, "own", "", tree.size, signed(tree, origin, [key]))
    db.commit()
    db.close()


def change_a_leaf(db: sqlite3.Connection) -> None:
    db.execute("""UPDATE entries SET leaf = CAST(replace(CAST(leaf AS TEXT), '"n":1', '"n":9') AS BLOB) WHERE seq = 2""")


def cut(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM entries WHERE seq > 4")
