"""Secrets on disk: made on first use, complete or not at all; readable by their owner only, and refused when they are not.

Agent and hub may start at the same moment, and both read the key between them: whoever comes second keeps the first one's.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import os
import re
from pathlib import Path
from typing import Final

from stead.model.errors import SteadError

KEY: Final = re.compile(r"[a-z2-7]{52}")
_RENEW: Final = "delete it, so that a new one is made"


def base32(size: int) -> str:
    """So many random bytes in base32, lower case."""
    return base64.b32encode(os.urandom(size)).decode().rstrip("=").lower()


def load_key(path: str) -> str:
    """The key between hub and agent (32 random bytes), made if there is none. SteadError as `load_secret`."""
    return load_secret(Path(path), base32(32), KEY)


def load_secret(path: Path, fresh: str, form: re.Pattern[str]) -> str:
    """Read a secret, or keep `fresh` as it. SteadError: it can't be read or made, is open to others, or is damaged."""
    try:
        if not os.path.lexists(path):
            _create(path, fresh)
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            text = file.read(256).decode("ascii", "replace").strip()
    except OSError as error:
        what = f"the secret can't be read or made: {error.strerror}"
        raise SteadError(what, str(path), _fix(error), code="hub.secret") from None
    if mode & 0o077 and os.name != "nt":
        what = f"the secret is open to others (mode {mode:04o})"
        raise SteadError(what, str(path), f"{_RENEW}: others may have read this one", code="hub.secret-open")
    if form.fullmatch(text) is None:
        raise SteadError("the secret is damaged", str(path), _RENEW, code="hub.secret-damaged")
    return text


def _fix(error: OSError) -> str:
    if error.errno in (errno.EISDIR, errno.ELOOP):
        return _RENEW
    if error.errno in (errno.EROFS, errno.ENOSPC, errno.EDQUOT):
        return "make the state directory writable and free some space there, or choose another with --state"
    return "run this as the state's owner or as root, or choose another state with --state"


def _create(path: Path, text: str) -> None:
    """Make the file whole or not at all; whoever comes second keeps the first one's."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
