"""What a person sits in: the group of a login session, and the programs that a session lives and dies with.

Memory is never won by ending or freezing those: whoever sits there loses unsaved work, and the way to look at what happens.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Final

# a session ends, or its user is shut out, when one of these ends; at most 15 characters, as the kernel shows names
PROGRAMS: Final[dict[str, str]] = {
    "login": "a login",
    "agetty": "a login",
    "getty": "a login",
    "mosh-server": "a login over the network",
    "sshd*": "the way in by ssh",
    "tmux*": "a terminal multiplexer",
    "screen": "a terminal multiplexer",
    "SCREEN": "a terminal multiplexer",
    "zellij": "a terminal multiplexer",
    "Xorg*": "a display server",
    "Xwayland": "a display server",
    "X": "a display server",
    "weston": "a display server",
    "sway": "a display server",
    "mutter*": "a display server",
    "kwin*": "a display server",
    "gnome-shell": "a desktop session",
    "gnome-session*": "a desktop session",
    "plasmashell": "a desktop session",
    "plasma_session": "a desktop session",
    "xfce4-session": "a desktop session",
    "gdm*": "a login",
    "sddm*": "a login",
    "lightdm*": "a login",
}
_OF_USERS: Final = ("user.slice", "user-*.slice", "user@*.service", "session.slice", "init.scope")


def session_program(name: str) -> str:
    """What a process of this name is to a session; empty when it is nothing."""
    return next((what for pattern, what in PROGRAMS.items() if fnmatchcase(name, pattern)), "")


def session_group(path: str) -> str:
    """Why a control group is a login session, or holds one, in words; empty when it is and holds none.

    systemd puts logins into /user.slice/user-<uid>.slice/session-<n>.scope, and what a user's own manager runs into
    user@<uid>.service (systemd's CGROUP_DELEGATION and user@.service(5)): there app.slice is apart from the session itself.
    """
    parts = [part for part in path.split("/") if part]
    for place, part in enumerate(parts):
        if fnmatchcase(part, "session-*.scope") and place > 0:
            return f"{part} is a login session"
    if parts and any(fnmatchcase(parts[-1], pattern) for pattern in _OF_USERS):
        return f"{parts[-1]} holds login sessions"
    if "session.slice" in parts:
        return f"{path} is a desktop session"
    return ""
