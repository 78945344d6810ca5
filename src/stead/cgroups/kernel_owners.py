"""Who else sets knobs of this kernel? A controller that runs is left what it sets; an idle installation owns nothing.

Who they are is in `rivals`. TuneD sets what its active profile names: the profile files are INI files with `include=` and
sections of `type=sysctl` and `type=sysfs` (the section's own name when no type is given; tuned-project.org, "Profiles").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from stead.cgroups.rivals import claimant, running
from stead.protocols import Host

_KSM_FOLDER: Final = "/sys/kernel/mm/ksm/"
_PROFILES: Final = ("/etc/tuned/profiles", "/etc/tuned", "/usr/lib/tuned/profiles", "/usr/lib/tuned")  # the first that has it
_INCLUDES_MAX: Final = 32
TUNED: Final = "TuneD"


def owner_of_ksm(host: Host) -> str:
    """Which controller that runs drives KSM here; empty: none."""
    return _owner(host, "kernel.ksm", lambda settings: any(key.startswith(_KSM_FOLDER) for key in settings))


def owner_of_sysctl(host: Host, name: str) -> str:
    """Which controller that runs sets this sysctl here; empty: none."""
    return _owner(host, f"sysctl.{name}", lambda settings: name in settings) if name else ""


def _owner(host: Host, knob: str, in_profile: Callable[[frozenset[str]], bool]) -> str:
    """TuneD could set anything, so its profile is read; the others own what the table of rivals says."""
    names = running(host).keys()
    rival = claimant(names - {TUNED}, knob)
    if rival is not None:
        return rival.name
    return TUNED if TUNED in names and in_profile(tuned_settings(host)) else ""


def tuned_settings(host: Host) -> frozenset[str]:
    """What TuneD's active profiles set: names of sysctls, and paths below /sys."""
    try:
        wanted = host.read("/etc/tuned/active_profile", 4096).decode("utf-8", "replace").split()
    except OSError:
        return frozenset()
    found: set[str] = set()
    seen: set[str] = set()
    while wanted and len(seen) < _INCLUDES_MAX:
        name = wanted.pop()
        if name in seen or "/" in name:
            continue
        seen.add(name)
        sections = _sections(_profile(host, name))
        wanted += sections.get("main", {}).get("include", "").replace(",", " ").split()
        for section, options in sections.items():
            if options.get("type", section) in ("sysctl", "sysfs"):
                found.update(key.replace("/", ".") if not key.startswith("/") else key for key in options if key != "type")
    return frozenset(found)


def _profile(host: Host, name: str) -> str:
    for folder in _PROFILES:
        try:
            return host.read(f"{folder}/{name}/tuned.conf", 1 << 16).decode("utf-8", "replace")
        except OSError:
            continue
    return ""


def _sections(text: str) -> Mapping[str, dict[str, str]]:
    """An INI file as TuneD reads it: `key=value`, also `key=>value`; comments by # and ;."""
    sections: dict[str, dict[str, str]] = {}
    options: dict[str, str] = {}
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            options = sections.setdefault(line[1:-1].strip(), {})
        elif line and line[0] not in "#;" and "=" in line:
            key, _, value = line.partition("=")
            options[key.strip()] = value.strip()
    return sections
