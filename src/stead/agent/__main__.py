"""`python -m stead.agent`: the daemon, without the command line's library.

What some libraries load only because it happens to be there is kept out: rich (7 MB, through structlog), OpenSSL (3.5 MB
for hashlib, whose own SHA-256 does as well here; 3 MB for TLS, which a Unix socket does not need), and what shutil and
msgspec take along (0.6 MB).
"""

from __future__ import annotations

import sys

LATER = ("bz2", "lzma", "typing_extensions")  # a plugin may want these
for spared in ("rich", "better_exceptions", "ssl", "_hashlib", *LATER):
    sys.modules.setdefault(spared, None)  # type: ignore[arg-type]

from stead.agent.daemon import main  # noqa: E402

for spared in LATER:
    if sys.modules[spared] is None:
        del sys.modules[spared]

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
