"""Lists of CPUs as `priority` writes them: "0-3,6"."""

from __future__ import annotations

from stead.model.errors import SteadError


def parse_cpus(text: str) -> list[int]:
    """CPUs of a list such as "0-3,6". SteadError when it is none."""
    cpus: set[int] = set()
    try:
        for part in text.split(","):
            first, _, last = part.strip().partition("-")
            cpus.update(range(int(first), int(last or first) + 1))
    except ValueError:
        cpus.clear()
    if not cpus:
        raise SteadError(f"not a list of CPUs: {text!r}", "cpus", 'write it as "0-3,6"', code="priority.cpus")
    return sorted(cpus)


def format_cpus(cpus: tuple[int, ...] | list[int]) -> str:
    """CPUs as the shortest such list."""
    parts: list[list[int]] = []
    for cpu in sorted(cpus):
        if parts and parts[-1][1] == cpu - 1:
            parts[-1][1] = cpu
        else:
            parts.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
