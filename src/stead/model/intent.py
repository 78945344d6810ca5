"""Intent in the owner's words: what is to be protected, with which objective, and what may be slowed for its sake.

What matches neither is left alone, and what matches both is protected. A pattern is a shell glob with its kind before it:
`service:nginx*`, `cgroup:/batch.slice/*`, `process:stress-ng*`; a bare word is a process. A glob with a space or a slash in it
is held against a process's whole command line, any other against its name, its program's and its script's.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Final, Literal

import msgspec

from stead.model.protection import BUILT_IN, singled_out

Resource = Literal["cpu", "memory", "io"]
Kind = Literal["service", "cgroup", "process"]
LOST: Final[dict[Resource, str]] = {  # the metric of what protected work loses
    "cpu": "infra.protected_cpu_wait",
    "memory": "infra.protected_memory_stall",
    "io": "infra.protected_io_stall",
}
RESOURCE_WORDS: Final[dict[Resource, str]] = {"cpu": "CPU", "memory": "memory", "io": "IO"}
KINDS: Final[tuple[Kind, ...]] = ("service", "cgroup", "process")
# groups in which something runs that is never slowed; who slows one of their ancestors slows them too
_GUARDED: Final = {
    "/init.scope": "the init system",
    "/system.slice/ssh.service": "the way in by ssh",
    "/system.slice/sshd.service": "the way in by ssh",
    "/system.slice/systemd-journald.service": "part of systemd",
    "/system.slice/systemd-logind.service": "part of systemd",
    "/system.slice/stead.service": "stead itself",
    "/system.slice/stead-agent.service": "stead itself",
    "/system.slice/stead-hub.service": "stead itself",
}
_SERVICES: Final = tuple(path.rpartition("/")[2] for path in _GUARDED if path.endswith(".service"))
# their command lines as distributions have them: what a glob of whole command lines is held against
_COMMANDS: Final = {
    "/sbin/init": "the init system",
    "/usr/lib/systemd/systemd --switched-root --system --deserialize 31": "the init system",
    "/lib/systemd/systemd-journald": "part of systemd",
    "/usr/lib/systemd/systemd-logind": "part of systemd",
    "/usr/sbin/sshd -D": "the way in by ssh",
    "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups": "the way in by ssh",
    "/usr/bin/stead agent": "stead itself",
    "/usr/bin/python3 -m stead.agent": "stead itself",
}


class Objective(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the owner wants of protected work: a metric's statistic over a while, or its pressure, below a level."""

    below: float  # in the metric's unit; percent of the time for a pressure
    metric: str = ""  # one that stead knows, e.g. api.latency_p95
    pressure: Resource | None = None  # instead of a metric: the share of time that the protected work is held up for it
    subject: str = ""  # whose metric it is, e.g. workload:web; empty: the host's
    statistic: Literal["p95", "mean", "max", "last"] = "p95"  # of the values in the window
    window_s: float = 60.0  # the last so many seconds, at most 600

    def __str__(self) -> str:
        """In words: "p95 of api.latency_p95 of workload:web below 300 over 60 s"."""
        of = f" of {self.subject}" if self.subject else ""
        what = f"{RESOURCE_WORDS[self.pressure]} pressure" if self.pressure else f"{self.metric}{of}"
        return f"{self.statistic} of {what} below {self.below:g}{' %' if self.pressure else ''} over {self.window_s:g} s"


class Protect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Work that matters: the patterns that it is found by, and what is wanted for it."""

    match: tuple[str, ...]  # patterns: what fits any of them is meant
    name: str = ""  # empty: its first pattern
    objective: Objective | None = None  # none: nothing but what contention says

    @property
    def title(self) -> str:
        """What it is called."""
        return self.name or (self.match[0] if self.match else "")

    @property
    def subject(self) -> str:
        """Its name as a sample's subject."""
        return f"protect:{self.title}"


class Intent(msgspec.Struct, frozen=True):
    """All of it. Where `protect` is empty, nothing is measured and nothing is slowed."""

    protect: tuple[Protect, ...] = ()
    best_effort: tuple[str, ...] = ()


class Matched(msgspec.Struct, frozen=True):
    """What one protected thing, or one pattern of what may be slowed, stands for now."""

    role: Literal["protect", "best_effort"]
    name: str
    patterns: tuple[str, ...]
    found: tuple[str, ...]  # the groups and processes by what they are called; of a contender its root
    processes: int  # with all below them
    objective: str = ""  # in words
    left_out: tuple[str, ...] = ()  # what fits and is not slowed all the same, and why
    lost: dict[Resource, float | None] = {}  # percent of the time that it is held up; None: not known. Only from an agent
    miss: float | None = None  # its objective's value over its level


class Pattern(msgspec.Struct, frozen=True):
    """One pattern, taken apart."""

    kind: Kind
    glob: str

    def __str__(self) -> str:
        """As people write it, with its kind."""
        return f"{self.kind}:{self.glob}"

    @property
    def by_command(self) -> bool:
        """Is it held against whole command lines?"""
        return self.kind == "process" and any(letter in self.glob for letter in " /")

    def fits_process(self, name: str, command: str) -> bool:
        """Does a process of this name (the kernel keeps 15 characters) and command line match?"""
        if self.by_command:
            return fnmatchcase(command, self.glob)
        return bool(self.called(name, command))

    def called(self, name: str, command: str) -> str:
        """What a process that matches is called: the one of its names that does, as a script's own; empty where none does."""
        if self.kind != "process":
            return ""
        if self.by_command:
            return name if fnmatchcase(command, self.glob) else ""
        words = [name, *(word.rpartition("/")[2] for word in command.split(" ", 2)[:2] if not word.startswith("-"))]
        return next((word for word in words if word and fnmatchcase(word, self.glob)), "")

    def fits_group(self, path: str) -> bool:
        """Does a control group match: by its path, or a service by the name of its unit, with or without `.service`?"""
        if self.kind == "cgroup":
            return fnmatchcase(path, self.glob.rstrip("/") or "/")
        unit = path.rpartition("/")[2]
        if self.kind != "service" or not unit.endswith(".service"):
            return False
        return fnmatchcase(unit, self.glob) or fnmatchcase(unit.removesuffix(".service"), self.glob)


def pattern_of(text: str) -> Pattern:
    """Take a pattern apart. A kind that is not known is left to `mistake`, and reads as part of a process's name."""
    kind, colon, glob = text.partition(":")
    for known in KINDS:
        if colon and kind == known:
            return Pattern(known, glob)
    return Pattern("process", text)


def mistakes(intent: Intent) -> Iterator[tuple[str, int, int | None, str, str]]:
    """What can't be meant: (list, index, index in its `match`, what, what to do)."""
    names: set[str] = set()
    slowed = set(intent.best_effort)
    for index, one in enumerate(intent.protect):
        if one.title in names:
            yield "protect", index, None, f"two things to protect are named {one.title}", "give each a name of its own"
        names.add(one.title)
        if not one.match:
            yield "protect", index, None, "nothing is named that it is found by", "give match: [patterns]"
        for place, text in enumerate(one.match):
            found = mistake(text)
            if not found and text in slowed:
                found = f"{text} is to be protected and slowed at once", "remove it from one of the two lists"
            if found:
                yield "protect", index, place, *found
        if one.objective is not None:
            wrong = _objective(one.objective)
            if wrong:
                yield "protect", index, None, f"the objective of {one.title}: {wrong[0]}", wrong[1]
    for index, text in enumerate(intent.best_effort):
        found = mistake(text) or never_slowed(text)
        if found:
            yield "best_effort", index, None, *found


def mistake(text: str) -> tuple[str, str] | None:
    """Why a text is no pattern, and what to do about it."""
    pattern = pattern_of(text)
    kind, colon, _ = text.partition(":")
    if colon and kind.isidentifier() and kind not in KINDS:
        return f"{text} has the kind {kind}, which is none", f"write {', '.join(f'{one}:' for one in KINDS)} or a process's name"
    if not pattern.glob.strip("*?"):
        return f"{text!r} names everything", "name what you mean"
    if pattern.kind == "cgroup" and not pattern.glob.startswith("/"):
        return f"{text} is no path of a control group", f"begin it with a slash: cgroup:/{pattern.glob}"
    return None


def never_slowed(text: str) -> tuple[str, str] | None:
    """Why nothing that fits this pattern may be slowed: PID 1, sshd, the kernel or stead would be among it."""
    pattern = pattern_of(text)
    fix = "name more exactly what may be slowed"
    if pattern.kind == "cgroup":
        for path, what in _GUARDED.items():
            if any(pattern.fits_group(above) for above in _with_ancestors(path)):
                return f"{text} covers {path}: {what} is never slowed", fix
        return None
    if pattern.by_command:
        return _covers_command(text, pattern, fix)
    if pattern.kind == "service":
        for unit in _SERVICES:
            if pattern.fits_group(f"/{unit}"):
                return f"{text} covers {unit}: {_GUARDED[f'/system.slice/{unit}']} is never slowed", fix
    found = singled_out(pattern.glob.lower().removesuffix(".service"))
    return (f"{text} covers {found}: {BUILT_IN[found]} is never slowed", fix) if found else None


def _covers_command(text: str, pattern: Pattern, fix: str) -> tuple[str, str] | None:
    """The same of a glob of command lines: by those of what is never slowed, and by the program that it begins with."""
    for command, what in _COMMANDS.items():
        if pattern.fits_process("", command):
            return f"{text} covers {command}: {what} is never slowed", fix
    program = pattern.glob.split(" ", 1)[0].rpartition("/")[2].lower()
    found = singled_out(program) if program.strip("*?") else None
    return (f"{text} covers {found}: {BUILT_IN[found]} is never slowed", fix) if found else None


def guarded(name: str) -> str:
    """What a process of this name is, if it is one that is never slowed; empty when it may be."""
    return next((what for pattern, what in BUILT_IN.items() if fnmatchcase(name.lower(), pattern)), "")


def _objective(one: Objective) -> tuple[str, str] | None:
    if bool(one.metric) == (one.pressure is not None):
        return "it needs a metric or a pressure, and one of them only", "keep one of the two" if one.metric else "name one"
    if not 0 < one.below < float("inf"):
        return f"below is {one.below:g}", "give a number above 0"
    if one.pressure is not None and one.below > 100:
        return f"below is {one.below:g}, and a pressure is a percentage of the time", "give a number up to 100"
    if not 0 < one.window_s <= 600:
        return f"window_s is {one.window_s:g}", "give seconds above 0, and at most 600"
    return None


def _with_ancestors(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition("/")[0]
    yield "/"
