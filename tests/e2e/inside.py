"""Start a program in a mount namespace of its own: python inside.py '{"kind": …}' program argument …

What is mounted here is seen by that program alone and is gone with it: nothing can be left behind. Kinds:

- tmpfs: a small disk at `path`, with the outer directory `run` mounted at `path`/run, where the socket is.
- readonly: `path` as it is, but nothing in it can be written.
- fuse: a file system at `path` whose other side is descriptor `fd`, which nobody reads: whoever asks it waits.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys

NEW_NAMESPACE, READ_ONLY, REMOUNT, BIND, RECURSIVE, PRIVATE = 0x20000, 1, 32, 4096, 16384, 1 << 18
libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> None:
    """One call of libc that answers 0. OSError."""
    if getattr(libc, name)(*(os.fsencode(one) if isinstance(one, str) else one for one in arguments)):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}{arguments}: {os.strerror(number)}")


def prepare(kind: str, path: str, run: str = "", size: str = "4m", fd: int = -1) -> None:
    """Mount what is asked for."""
    call("unshare", NEW_NAMESPACE)
    call("mount", "none", "/", None, RECURSIVE | PRIVATE, None)
    if kind == "tmpfs":
        call("mount", "tmpfs", path, "tmpfs", 0, f"size={size},mode=700")
        os.mkdir(f"{path}/run")
        call("mount", run, f"{path}/run", None, BIND, None)
    elif kind == "readonly":
        call("mount", path, path, None, BIND, None)
        call("mount", None, path, None, BIND | REMOUNT | READ_ONLY, None)
    elif kind == "fuse":
        options = f"fd={fd},rootmode=40000,user_id=0,group_id=0"
        call("mount", "steadtest", path, "fuse.steadtest", 0, options)
        os.set_inheritable(fd, False)


if __name__ == "__main__":
    prepare(**json.loads(sys.argv[1]))
    if len(sys.argv) > 2:
        os.execv(sys.argv[2], sys.argv[2:])
