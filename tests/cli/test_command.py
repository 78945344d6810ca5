"""The command as a process: what it imports, how it ends on a broken pipe, Ctrl-C and the unexpected."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from stead.model import messages as m
from tests.cli.fake_agent import FakeAgent, views

STEAD = [sys.executable, "-P", "-c", "from stead.cli import main; main()"]
HEAVY = ("asyncio", "litestar", "uvicorn", "yaml", "structlog", "sqlite3", "socket", "msgspec", "http", "numpy", "psutil", "rich")


def run(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*STEAD, *words], capture_output=True, text=True, timeout=30, **options)  # type: ignore[call-overload,no-any-return]


def test_help_imports_nothing_heavy() -> None:
    code = "import sys\nfrom stead.cli import main\ntry:\n    main()\nexcept SystemExit:\n    print('\\nMODULES', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, timeout=30)
    page, _, modules = done.stdout.partition("MODULES")
    assert "Start agent and hub on this host" in page
    loaded = {name.partition(".")[0] for name in modules.split()}
    assert "click" in loaded and not loaded & set(HEAVY)
    assert not {name for name in modules.split() if name.startswith("stead.") and not name.startswith("stead.cli")}


def test_a_verb_does_not_load_asyncio_or_the_servers(agent: FakeAgent, state: Path) -> None:
    code = "import sys\nfrom stead.cli import main\ntry:\n    main()\nexcept SystemExit:\n    print('\\nMODULES', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, "--state", state, "findings"], capture_output=True, text=True, timeout=30)
    assert "has used 1.0 cores" in done.stdout
    assert not {name.partition(".")[0] for name in done.stdout.partition("MODULES")[2].split()} & {
        "asyncio",
        "litestar",
        "sqlite3",
    }


def test_the_state_directory_may_come_from_the_environment(agent: FakeAgent, state: Path) -> None:
    done = run("status", env={**os.environ, "STEAD_STATE_DIR": str(state)})
    assert done.returncode == 0 and "box" in done.stdout
    assert run("status", "--state", str(state)).stdout == done.stdout


def test_a_reader_that_leaves_is_no_error(agent: FakeAgent, state: Path) -> None:
    many = views()
    agent.answers[m.GetMetrics] = m.MetricList(many.metrics * 3000)
    command = " ".join(f"'{word}'" for word in [*STEAD, "--state", str(state), "metrics"])
    done = subprocess.run(["bash", "-c", f"{command} | head -1"], capture_output=True, text=True, timeout=30)
    assert done.stdout.startswith("METRIC")
    assert done.stderr == ""


def test_ctrl_c_ends_quietly_with_130(agent: FakeAgent, state: Path) -> None:
    agent.silent = True
    child = subprocess.Popen([*STEAD, "--state", str(state), "status"], stderr=subprocess.PIPE, text=True)
    while not agent.asked:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=10)
    assert child.returncode == 130
    assert errors.strip() == ""


def test_the_unexpected_is_one_line_and_debug_shows_where(agent: FakeAgent, state: Path) -> None:
    broken = "import stead.cli.look as look\nlook.status_lines = lambda now: 1 / 0\nfrom stead.cli import main\nmain()"
    short = subprocess.run([sys.executable, "-c", broken, "--state", state, "status"], capture_output=True, text=True, timeout=30)
    assert short.returncode == 1
    assert short.stderr.count("\n") == 1 and "ZeroDivisionError" in short.stderr and "--debug" in short.stderr
    words = [sys.executable, "-c", broken, "--debug", "--state", state, "status"]
    assert "Traceback" in subprocess.run(words, capture_output=True, text=True, timeout=30).stderr


def test_the_version() -> None:
    import stead

    assert run("--version").stdout == f"stead {stead.__version__}\n"


def test_the_agent_verb_puts_back_what_leases_hold_and_ends(state: Path) -> None:
    done = run("--state", str(state), "agent", "--restore", "-o", "json")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
