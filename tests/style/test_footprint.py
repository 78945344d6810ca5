"""What a running agent has imported: a new package in every host's memory must be somebody's decision.

A real agent runs on a bare interpreter that sees only what `requirements/agent.txt` pins, and Python itself lists what it
imports (`-X importtime`). So this fails both for a package too many and for one that the agent needs and does not name.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.machinery import PathFinder
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest

from stead.config import load_config
from stead.model.errors import SteadError
from stead.model.messages import GetStatus, Status
from stead.wire import Door
from tests.style.repository import ROOT

START_S = 60.0
TICKS = 3
ALLOWED = Path(__file__).with_name("agent_modules.txt")


def allowed() -> dict[str, bool]:
    """Third-party package → whether it may be there only when it is asked for."""
    lines = [line.split() for line in ALLOWED.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return {line[0]: line[1:] == ["lazy"] for line in lines}


def pinned(name: str) -> Iterator[Distribution]:
    """The installed distributions that one requirements file names for this system."""
    for each in re.findall(r"^([\w.-]+)==", (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8"), re.MULTILINE):
        try:
            yield distribution(each)
        except PackageNotFoundError:
            continue  # for another system


def link_bare(site: Path) -> None:
    """Make `site` hold what the agent's requirements hold, and stead's own entry points."""
    for each in pinned("agent"):
        for top in {file.parts[0] for file in each.files or () if file.parts[0] not in ("..", "__pycache__")}:
            if not (site / top).exists():
                (site / top).symlink_to(str(each.locate_file(top)))
    stead = next(file.parts[0] for file in distribution("stead").files or () if file.parts[0].endswith(".dist-info"))
    (site / stead).symlink_to(str(distribution("stead").locate_file(stead)))


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Every module that an agent imported from its start through its first ticks."""
    folder = tmp_path_factory.mktemp("footprint")
    (folder / "site").mkdir()
    link_bare(folder / "site")
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("STEAD_", "PYTHON", "COV"))}
    environ["PYTHONPATH"] = f"{folder / 'site'}:{ROOT / 'src'}"
    with (folder / "imports").open("wb") as log:
        argv = [sys.executable, "-S", "-X", "importtime", "-m", "stead.agent", "--state", str(folder / "state")]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, env=environ)
        try:
            watch(process, load_config(state_dir=str(folder / "state"), environ={})[1].socket)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    lines = (folder / "imports").read_text(errors="replace").splitlines()
    names = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    return {name for name in names if is_there(name.partition(".")[0], folder / "site")}


def is_there(top: str, site: Path) -> bool:
    """Was it really imported? What was looked for and not found is listed too."""
    return top == "stead" or top in sys.stdlib_module_names or PathFinder.find_spec(top, [str(site)]) is not None


def watch(process: subprocess.Popen[bytes], socket: str) -> None:
    """Until some ticks have completed."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if Door(socket).ask(GetStatus(), Status).ticks >= TICKS:
                return
        except SteadError:
            pass
        time.sleep(0.1)
    raise AssertionError("the agent did not tick")


def test_only_the_packages_that_were_decided_on(imported: set[str]) -> None:
    present = {name.partition(".")[0] for name in imported} - sys.stdlib_module_names - {"stead"}
    decided = {name for name, lazy in allowed().items() if not lazy}
    assert present <= decided
    assert {"msgspec", "structlog"} <= present


def test_neither_the_hub_nor_the_command_line(imported: set[str]) -> None:
    own = {".".join(name.split(".")[:2]) for name in imported if name.startswith("stead.")}
    assert "stead.agent" in own
    assert not own & {"stead.hub", "stead.cli", "stead.testing", "stead.demo"}


def test_no_tls_and_no_numbers_library(imported: set[str]) -> None:
    tops = {name.partition(".")[0] for name in imported}
    assert not tops & {"_ssl", "numpy", "psutil", "multiprocessing", "ctypes", "xml", "http", "unittest"}


def test_what_only_a_question_needs_is_not_there_before_one(imported: set[str]) -> None:
    assert not imported & {"stead.ledger.why", "stead.ledger.words", "stead.agent.explain", "_lzma", "_bz2", "random"}


def test_a_plugin_may_still_unpack() -> None:
    code = "import stead.agent.__main__, sys; assert '_lzma' not in sys.modules; import bz2, lzma, typing_extensions"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
