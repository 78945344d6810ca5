from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from stead.hub.keys import KEY, TOKEN, load_key, load_token
from stead.model.errors import SteadError


def test_a_token_is_made_once_for_its_owner_only(folder: Path):
    path = folder / "token"
    token, text = load_token(str(path), "uid:7")
    assert path.stat().st_mode & 0o777 == 0o600
    assert TOKEN.fullmatch(text) and token.matches(text) and not token.matches(text[:-1]) and not token.matches("é")
    assert (token.person, token.id) == ("uid:7", text.split("_")[1])
    assert load_token(str(path), "uid:7") == (token, text)
    assert os.listdir(folder) == ["token"]
    assert text not in repr(token)


def test_a_token_that_others_may_have_read_is_refused(folder: Path):
    path = folder / "token"
    load_token(str(path), "uid:7")
    path.chmod(0o640)
    with pytest.raises(SteadError, match=r"open to others.*delete it"):
        load_token(str(path), "uid:7")


@pytest.mark.parametrize("content", ["", "stead_x_y", "a" * 52, "stead_abcdefgh_" + "1" * 52])
def test_a_damaged_token_is_refused(folder: Path, content: str):
    path = folder / "token"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(SteadError, match="damaged"):
        load_token(str(path), "uid:7")


def test_a_link_in_its_place_is_not_followed(folder: Path):
    (folder / "elsewhere").write_text("a" * 52)
    (folder / "hub.key").symlink_to(folder / "elsewhere")
    with pytest.raises(SteadError, match="can't be read"):
        load_key(str(folder / "hub.key"))


def test_who_comes_at_the_same_time_gets_the_same_key(folder: Path):
    found: list[str] = []
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait()
        found.append(load_key(str(folder / "hub.key")))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1 and KEY.fullmatch(found[0])
