"""`python -m stead.agent`: the daemon, without the command line's library.

What some libraries load only because it happens to be installed is kept out here: rich costs 7 MB, and TLS (3 MB) is not
needed on a Unix socket.
"""

from __future__ import annotations

import sys

for spared in ("rich", "better_exceptions", "ssl"):
    sys.modules.setdefault(spared, None)  # type: ignore[arg-type]

from stead.agent.daemon import main  # noqa: E402

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
