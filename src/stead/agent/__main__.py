"""`python -m stead.agent`: the daemon, without the command line's library.

What some libraries load only because it happens to be there is kept out: rich (7 MB, through structlog), OpenSSL (3.5 MB
for hashlib, whose own SHA-256 does as well here; 3 MB for TLS, which a Unix socket does not need).
"""

from __future__ import annotations

import sys

for spared in ("rich", "better_exceptions", "ssl", "_hashlib"):
    sys.modules.setdefault(spared, None)  # type: ignore[arg-type]

from stead.agent.daemon import main  # noqa: E402

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
