from __future__ import annotations

import sys
import textwrap

import pytest

from stead import plugins


@pytest.fixture
def offer(tmp_path, monkeypatch):
    """Install a distribution that offers entry points, as pip would."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names: list[str] = []

    def install(name: str, module: str, entry_points: str) -> None:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(module))
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(textwrap.dedent(entry_points))
        names.append(name)
        plugins.declared.cache_clear()

    yield install
    for name in names:
        sys.modules.pop(name, None)
    plugins.declared.cache_clear()


def test_a_factory_gets_what_its_signature_names_and_no_more(offer):
    offer(
        "stranger",
        """
        def plain(): return "plain"
        def wants(host, spare="kept"): return (host, spare)
        def takes_any(**rest): return rest
        class Sort:
            def __init__(self, drivers): self.drivers = drivers
        """,
        """
        [stead.test]
        plain = stranger:plain
        wants = stranger:wants
        any = stranger:takes_any
        sort = stranger:Sort
        """,
    )
    loaded = plugins.load("stead.test", host="a host", drivers={"process": 1})
    assert loaded.broken == {}
    assert loaded.plugins["plain"] == "plain"
    assert loaded.plugins["wants"] == ("a host", "kept")
    assert loaded.plugins["any"] == {}
    assert loaded.plugins["sort"].drivers == {"process": 1}


def test_a_broken_plugin_is_reported_and_stops_no_other(offer):
    offer(
        "brittle",
        """
        def good(): return 1
        def raises(): raise RuntimeError("no such device")
        def needs(autonomy): return autonomy
        """,
        """
        [stead.test]
        good = brittle:good
        raises = brittle:raises
        needs = brittle:needs
        absent = brittle:nothing
        nowhere = no_such_module:probe
        """,
    )
    loaded = plugins.load("stead.test", host=1)
    assert loaded.plugins == {"good": 1}
    assert loaded.broken["raises"] == "RuntimeError: no such device"
    assert loaded.broken["needs"].startswith("needs autonomy")
    assert "nothing" in loaded.broken["absent"]
    assert "no_such_module" in loaded.broken["nowhere"]


def test_one_name_from_two_packages_is_nobodys(offer):
    offer("first", "def make(): return 1\n", "[stead.test]\nsame = first:make\n")
    offer("second", "def make(): return 2\n", "[stead.test]\nsame = second:make\n")
    loaded = plugins.load("stead.test")
    assert loaded.plugins == {}
    assert "first:make" in loaded.broken["same"] and "second:make" in loaded.broken["same"]


def test_an_unknown_group_is_empty():
    assert plugins.load("stead.no-such-group") == plugins.Loaded({}, {})
