"""What stead never touches, whatever a policy says: the kernel, the init system, the way in by ssh, and stead itself.

The built-in names stand for processes, units, services and each part of a control group's path; the patterns of the policy for
everything that has a name. Who runs inside a group is for its actuator to look at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final

from stead.model.change import Target
from stead.model.policy import Policy, Rule

# pattern → what it is; processes show at most 15 characters of their name
BUILT_IN: Final[dict[str, str]] = {
    "init": "the init system",
    "systemd": "the init system",
    "systemd*": "part of systemd",
    "launchd": "the init system",
    "runit*": "the init system",
    "s6-*": "the init system",
    "openrc*": "the init system",
    "dinit": "the init system",
    "sshd": "the way in by ssh",
    "sshd-*": "the way in by ssh",
    "sshd:*": "the way in by ssh",
    "ssh": "the way in by ssh",
    "dropbear": "the way in by ssh",
    "kernel*": "the kernel",
    "kthreadd": "the kernel",
    "kworker*": "the kernel",
    "ksoftirqd*": "the kernel",
    "kswapd*": "the kernel",
    "kcompactd*": "the kernel",
    "khugepaged*": "the kernel",
    "migration/*": "the kernel",
    "rcu_*": "the kernel",
    "jbd2/*": "the kernel",
    "irq/*": "the kernel",
    "stead": "stead itself",
    "stead-agent": "stead itself",
    "stead-hub": "stead itself",
    "stead-up": "stead itself",
}
_NAMED: Final = frozenset(("process", "unit", "service", "cgroup"))
_SUFFIXES: Final = (".service", ".socket", ".scope", ".slice", ".timer")
# names that stand for a built-in pattern when a policy is checked for what it would allow
_EXAMPLES: Final = (*(name.rstrip("*").rstrip("-:/_") for name in BUILT_IN), "systemd-logind", "systemd-journald", "sshd.service")


def globbed(text: str, patterns: Iterable[str]) -> bool:
    """Does a text match one of these shell globs? Case counts."""
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def protected(target: Target, labels: Mapping[str, str], policy: Policy, own: Mapping[str, str] | None = None) -> str | None:
    """Why a target can't be touched by any rule, in words; None when it can.

    `own`: pid, or "pid@start_ticks" → what it is, for stead's own agent, hub and `up`. A process whose name is not
    known is protected: what it is can't be told.
    """
    names = _names(target, labels)
    why = _process(target, labels, own or {}) if target.kind == "process" else None
    if target.kind == "cgroup" and not target.name.strip("/"):
        why = "the root of all control groups holds the init system: no rule may touch it"
    if why:
        return why
    if target.kind in _NAMED:
        for name in names:
            for pattern, what in BUILT_IN.items():
                if fnmatchcase(name.lower(), pattern):
                    return f"{name} is {what}: no rule may touch it"
    for name in (*names, str(target)):
        for pattern in policy.protected:
            if fnmatchcase(name, pattern):
                return f"{name} is protected by the policy's pattern {pattern}"
    of_group = (pattern for pattern in policy.protected if target.kind == "cgroup" and names_group(pattern, target.name))
    return next((f"{target} is, or is in, what the policy's pattern {pattern} protects" for pattern in of_group), None)


def _process(target: Target, labels: Mapping[str, str], own: Mapping[str, str]) -> str | None:
    mine = own.get(target.name) or own.get(f"{target.name}@{target.identity.get('start_ticks', '')}")
    if mine:
        return f"{target} is {mine}: stead does not change itself"
    if target.name == "1":
        return "process 1 is the init system: no rule may touch it"
    if not labels.get("process"):
        return f"the name of {target} is not known, so it can't be told whether it is protected"
    if labels.get("command", "").startswith("["):
        return f"{labels['process']} is a thread of the kernel: no rule may touch it"
    return None


def singled_out(glob: str) -> str | None:
    """The built-in pattern that a glob of names could fit as well; None when it fits none."""
    return next((pattern for pattern in BUILT_IN if _touch(glob, pattern)), None)


def would_allow(rule: Rule, patterns: Sequence[str]) -> str | None:
    """The protected thing that an allow rule singles out by its target patterns; None when it does not.

    A rule that fits everything (no target, or `*`) singles out nothing: protection wins over it when it is applied.
    """
    if rule.then != "allow":
        return None
    for given in rule.when.target:
        kind, colon, name = given.partition(":")
        if not colon:
            kind, name = "*", given
        if name.strip("*?") == "":
            continue
        if fnmatchcase("process", kind) and fnmatchcase("1", name):
            return "process 1, the init system"
        if any(fnmatchcase(one, kind) for one in _NAMED):
            parts = name.strip("/").split("/") if fnmatchcase("cgroup", kind) else [name]
            for pattern in (*BUILT_IN, *_EXAMPLES):
                if any(part.strip("*?") and _touch(_bare(part).lower(), pattern) for part in parts):
                    return pattern
        for pattern in patterns:
            if _touch(name, pattern) or _touch(given, pattern):
                return pattern
    return None


def names_group(pattern: str, path: str) -> bool:
    """Does a pattern of the policy name this control group, or one that it is in? By the path, a part of it, or the unit's name.

    "cgroup:/shop.slice" and "/shop.slice" name what is below it too, "unit:db.service", "service:db*" and "db*" a part of it.
    """
    kind, colon, glob = pattern.partition(":")
    parts = [part for part in path.split("/") if part]
    names = [*parts, *map(_bare, parts)]
    above = ["/" + "/".join(parts[:end]) for end in range(1, len(parts) + 1)]
    if colon and kind == "cgroup":
        return globbed_by(glob.rstrip("/") or "/", above)
    if colon and kind in ("unit", "service"):
        return globbed_by(glob, names)
    return globbed_by(pattern, [*names, *above])


def globbed_by(pattern: str, names: Iterable[str]) -> bool:
    """Does this shell glob fit one of these names? Case counts."""
    return any(fnmatchcase(name, pattern) for name in names)


def _touch(given: str, pattern: str) -> bool:
    """Could one name fit both globs? Decided on each with its wildcards taken away."""
    return fnmatchcase(given.replace("*", ""), pattern) or fnmatchcase(pattern.replace("*", ""), given)


def _names(target: Target, labels: Mapping[str, str]) -> tuple[str, ...]:
    """The names that patterns are held against."""
    if target.kind == "process":
        name = labels.get("process", "")
        return (name,) if name else ()
    if target.kind == "cgroup":
        parts = [part for part in target.name.split("/") if part]
        return tuple(dict.fromkeys((target.name, *parts, *map(_bare, parts))))
    bare = _bare(target.name)
    return (target.name,) if bare == target.name else (target.name, bare)


def _bare(name: str) -> str:
    """A unit's name without its kind: ssh.service is ssh."""
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name
