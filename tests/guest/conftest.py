"""Guests for the tests of this folder: the image is made once and kept, each module has a guest of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.guest.bench import Bench
from tests.guest.image import Image, image
from tests.guest.machine import Machine
from tests.guest.project import project
from tests.guest.recipe import CannotBuildError, Recipe
from tests.guest.stead import Stead


def made(recipe: Recipe) -> Image:
    """The image of a recipe; the test is skipped, with the reason, where it can't be built."""
    try:
        return image(recipe)
    except CannotBuildError as error:
        pytest.skip(f"no guest: {error}")


@pytest.fixture(scope="session")
def start() -> Callable[..., Machine]:
    """Start a guest with stead in it: start(), or start(recipe), or with words for its kernel. The caller closes it."""

    def begin(recipe: Recipe | None = None, kernel: str = "") -> Machine:
        found = made(recipe or Recipe())
        try:
            disk = project(found)
        except CannotBuildError as error:
            pytest.skip(f"no guest: {error}")
        return Machine(found, disk, kernel=kernel)

    return begin


@pytest.fixture(scope="module")
def guest(start: Callable[..., Machine]) -> Iterator[Machine]:
    """The guest of this module."""
    with start() as machine:
        yield machine


@pytest.fixture
def agent(guest: Machine) -> Iterator[Stead]:
    """stead in that guest, not started; afterwards it is stopped and has forgotten everything."""
    yield Stead(guest)
    guest.run("systemctl stop stead-agent; systemctl reset-failed stead-agent", check=False)
    guest.run("rm -rf /var/lib/stead /run/stead /etc/stead /var/log/stead")


@pytest.fixture(scope="module")
def bench(guest: Machine) -> Bench:
    """The actuators in that guest."""
    return Bench(guest)
