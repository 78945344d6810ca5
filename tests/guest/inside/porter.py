"""Runs inside the guest: carries out what the outside asks for over a virtio serial port, one JSON line each way.

Questions are {"id", "now"} (set the clock), {"id", "run", "timeout_s"}, {"id", "put", "data", "mode", "more"}, {"id", "get"}
and {"id", "relay", "data"} (a line to a Unix socket and one back); data, output and errors are base64. One at a time.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import time
from typing import Any, BinaryIO

PORT = "/dev/virtio-ports/stead.porter"


def main() -> None:
    with open(PORT, "rb+", buffering=0) as port:
        waiting = b""
        while True:
            waiting += port.read(1 << 16) or b""
            line, found, rest = waiting.partition(b"\n")
            if not found:
                time.sleep(0.02)  # nobody is connected, or half a line came
                continue
            waiting = rest
            answer(port, line)


def answer(port: BinaryIO, line: bytes) -> None:
    told: dict[str, Any] = {"rc": 0, "out": "", "err": ""}
    try:
        question = json.loads(line)
        told["id"] = question["id"]
        told.update(act(question))
    except Exception as error:
        told.update(rc=125, err=coded(repr(error).encode()))
    data = json.dumps(told).encode() + b"\n"
    while data:
        data = data[port.write(data) or 0 :]


def act(question: dict[str, Any]) -> dict[str, Any]:
    if "now" in question:
        time.clock_settime(time.CLOCK_REALTIME, question["now"])
        return {}
    if "put" in question:
        os.makedirs(os.path.dirname(question["put"]), exist_ok=True)
        with open(question["put"], "ab" if question["more"] else "wb") as file:
            file.write(base64.b64decode(question["data"]))
        os.chmod(question["put"], question["mode"])
        return {}
    if "get" in question:
        with open(question["get"], "rb") as file:
            return {"out": coded(file.read())}
    if "relay" in question:
        return {"out": coded(relay(question["relay"], base64.b64decode(question["data"])))}
    return run(question["run"], question["timeout_s"])


def relay(path: str, line: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as door:
        door.settimeout(280)
        door.connect(path)
        door.sendall(line)
        with door.makefile("rb") as lines:
            return lines.readline()


def run(command: str, timeout_s: float) -> dict[str, Any]:
    """A shell line in a session of its own; what is left of it after its time is killed (rc 124)."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        ["/bin/bash", "-c", command], stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, start_new_session=True
    )
    try:
        out, err = process.communicate(timeout=timeout_s)
        rc = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        (out, err), rc = process.communicate(), 124
    return {"rc": rc, "out": coded(out), "err": coded(err)}


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


if __name__ == "__main__":
    main()
