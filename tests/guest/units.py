"""Real units in a guest to set limits on: transient services, and one that owns a subtree."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tests.guest.machine import Machine

FILES = (
    *("cpu.weight", "cpu.idle", "cpu.max", "memory.high", "memory.low", "memory.max", "io.max", "io.latency"),
    *("pids.max", "cgroup.freeze"),
)
LEFT = """
cd / && find run/systemd/system.control etc/systemd/system.control run/systemd/transient -path '*/{}.d/*' 2>/dev/null
"""
DELEGATED = """
set -e
G=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)
mkdir $G/own $G/jobs
echo $$ > $G/own/cgroup.procs
echo +cpu +memory +io +pids > $G/cgroup.subtree_control
sleep infinity & echo $! > $G/jobs/cgroup.procs
wait
"""


@contextlib.contextmanager
def unit(machine: Machine, name: str, command: str = "sleep infinity", *properties: str) -> Iterator[str]:
    """A service that runs a line of shell; gives the path of its control group, and ends it."""
    machine.put(f"/run/steadtest/{name}.sh", command)
    settings = " ".join(f"-p '{each}'" for each in properties)
    machine.run(f"systemctl reset-failed {name} 2>/dev/null; true")
    machine.run(f"systemd-run -q --unit={name} {settings} /bin/bash /run/steadtest/{name}.sh")
    try:
        yield machine.out(f"systemctl show -P ControlGroup {name}")
    finally:
        machine.run(f"systemctl thaw {name}; systemctl kill -s KILL {name}; systemctl stop {name}; true")


@contextlib.contextmanager
def installed(machine: Machine, name: str, command: str = "sleep infinity", *properties: str) -> Iterator[str]:
    """The same from a file in /etc, which is there again after a boot."""
    machine.put(f"/etc/steadtest/{name}.sh", command)
    lines = ("[Service]", f"ExecStart=/bin/bash /etc/steadtest/{name}.sh", *properties)
    text = "\n".join((*lines, "[Install]", "WantedBy=multi-user.target", ""))
    machine.put(f"/etc/systemd/system/{name}.service", text)
    machine.run(f"systemctl daemon-reload && systemctl enable -q --now {name}")
    try:
        yield machine.out(f"systemctl show -P ControlGroup {name}")
    finally:
        machine.run(f"systemctl thaw {name}; systemctl kill -s KILL {name}; systemctl disable -q --now {name}; true")
        machine.run(f"rm /etc/systemd/system/{name}.service; systemctl daemon-reload")


@contextlib.contextmanager
def delegated(machine: Machine, name: str) -> Iterator[str]:
    """A service with Delegate=yes that runs its own subtree; gives the path of the group in it where its work is."""
    with unit(machine, name, DELEGATED, "Delegate=yes") as path:
        machine.run(
            f"for i in $(seq 600); do grep -q . /sys/fs/cgroup{path}/jobs/cgroup.procs && exit 0; sleep 0.1; done; exit 1"
        )
        yield f"{path}/jobs"


def left_behind(machine: Machine, name: str) -> str:
    """Drop-ins of a unit that set-property wrote and nobody took away."""
    return machine.run(LEFT.format(name), check=False).out.strip()


def files_of(machine: Machine, path: str) -> dict[str, str]:
    """What the kernel says of a group's limits: file → text. "" where there is no such file."""
    script = f"cd /sys/fs/cgroup{path} && for f in {' '.join(FILES)}; do echo $f $(paste -sd';' $f 2>/dev/null); done"
    return dict(line.partition(" ")[::2] for line in machine.out(script).splitlines())
