"""Peer credentials: Linux by a real socket pair, macOS by the bytes its options give."""

from __future__ import annotations

import os
import socket
import struct

import pytest

from stead.model.errors import SteadError
from stead.wire import peer_credentials


def test_linux_says_who_connected() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert peer_credentials(one) == (os.getpid(), os.getuid(), os.getgid())


def test_macos_says_it_with_two_options() -> None:
    class Mac:
        def getsockopt(self, level: int, option: int, size: int) -> bytes:
            assert level == 0
            if option == 2:
                return struct.pack("i", 77)
            return struct.pack("=IIh2x16I", 0, 501, 2, 20, 12, *[0] * 14)

    assert peer_credentials(Mac(), "darwin") == (77, 501, 20)  # type: ignore[arg-type]


def test_a_closed_socket_is_one_error() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    other.close()
    one.close()
    with pytest.raises(SteadError, match="who connected"):
        peer_credentials(one)
