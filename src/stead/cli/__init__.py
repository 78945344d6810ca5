"""The command line. `main` is the `stead` command; each verb's module is imported only when that verb is used."""

from __future__ import annotations


def main() -> None:
    """Run the `stead` command of this process and exit with its code."""
    from stead.cli.root import stead

    stead(prog_name="stead")
