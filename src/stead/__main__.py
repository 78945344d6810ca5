"""`python -m stead`: the command line."""

from __future__ import annotations

from stead.cli import main

if __name__ == "__main__":
    main()
