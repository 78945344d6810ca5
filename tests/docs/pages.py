"""Takes the examples out of a page, so that tests can run what readers will copy."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.style.repository import ROOT

CONFTEST = """
import stead.{folder}
stead.{folder}.__path__.append(__file__.rpartition("/")[0])
"""


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of one language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def run_plugin_example(page: str, folder: str, name: str, into: Path) -> str:
    """Make a page's plugin and its test as files, and run the test: what pytest printed last."""
    module, test = blocks(page, "python")
    (into / f"{name}.py").write_text(module, encoding="utf-8")
    (into / f"test_{name}.py").write_text(test, encoding="utf-8")
    (into / "conftest.py").write_text(CONFTEST.format(folder=folder), encoding="utf-8")
    options = ["-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "--rootdir", str(into), "--basetemp", str(into / "tmp")]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options, f"test_{name}.py"],
        cwd=into,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout.strip().splitlines()[-1]


def lint(page: str, into: Path) -> str:
    """What ruff and mypy say of a page's plugin; empty when nothing."""
    module = blocks(page, "python")[0]
    path = into / "plugin.py"
    path.write_text(module, encoding="utf-8")
    said = ""
    for command in (
        ["ruff", "check", "--quiet"],
        ["ruff", "format", "--quiet", "--check"],
        ["mypy", "--strict", "--no-error-summary"],
    ):
        config = ["--config", str(ROOT / "pyproject.toml")] if command[0] == "ruff" else ["--cache-dir", str(into / "cache")]
        tool = [str(Path(sys.executable).parent / command[0]), *command[1:], *config, str(path)]
        ran = subprocess.run(tool, capture_output=True, text=True, timeout=100, cwd=ROOT, check=False)
        said += ran.stdout + ran.stderr
    return said
