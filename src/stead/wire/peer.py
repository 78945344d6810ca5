"""Who is at the other end of a Unix socket, as the system itself says: nothing that a client sends can change it."""

from __future__ import annotations

import socket
import struct
import sys

from stead.model.errors import SteadError

_SOL_LOCAL = 0  # macOS: level of the two options below
_LOCAL_PEERCRED = 1
_LOCAL_PEERPID = 2
_XUCRED = struct.Struct("=IIh2x16I")  # version, uid, number of groups, groups


def peer_credentials(sock: socket.socket, system: str = sys.platform) -> tuple[int, int, int]:
    """Give (pid, uid, gid) of the process that connected. SteadError where the system can't tell."""
    try:
        if system == "darwin":
            return _macos(sock)
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except (OSError, AttributeError) as error:
        what = f"the system does not say who connected: {error}"
        raise SteadError(what, "agent socket", "connect again", code="wire.no-credentials") from None
    pid, uid, gid = struct.unpack("3i", raw)
    return pid, uid, gid


def _macos(sock: socket.socket) -> tuple[int, int, int]:
    """The same on macOS, from its two options; the first group is the effective one."""
    _version, uid, _count, *groups = _XUCRED.unpack(sock.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED.size))
    (pid,) = struct.unpack("i", sock.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID, 4))
    return pid, uid, groups[0]
