"""What a group holds, of either version."""

from __future__ import annotations

import pytest

from stead.cgroups.memory import GroupMemory, memory_of, parse_flat, read_memory, swap_free
from stead.cgroups.tree import Groups
from stead.host import LocalHost
from tests.cgroups.groups import group, real_groups

V2 = b"anon 100\nfile 60\ninactive_anon 70\nactive_anon 30\ninactive_file 40\nactive_file 20\nslab_reclaimable 5\n"
V1 = b"cache 1\nrss 1\ninactive_file 1\ntotal_rss 9\ntotal_inactive_file 40\ntotal_active_file 20\ntotal_inactive_anon 70\n"


def test_version_2() -> None:
    seen = memory_of(b"165\n", V2, b"max\n")
    assert seen == GroupMemory(165, 65, 100, None)
    assert (seen.reclaimable(0), seen.reclaimable(30), seen.reclaimable(1000)) == (65, 95, 165)


def test_version_1_counts_what_is_below_too_and_shows_no_limit_as_a_huge_number() -> None:
    assert memory_of(b"165\n", V1, b"9223372036854771712\n") == GroupMemory(165, 60, 70, None)
    assert memory_of(b"165\n", V1, b"1048576\n").limit == 1 << 20


def test_the_root_has_no_limit_file() -> None:
    assert memory_of(b"165", V2, b"").limit is None


def test_torn_files_are_an_error_and_torn_fields_are_left_out() -> None:
    with pytest.raises(ValueError):
        memory_of(b"", V2, b"max")
    assert parse_flat(b"low 0\nhigh 12\nmax\noom x\n\n") == {b"low": 0, b"high": 12}


def test_a_real_group() -> None:
    host, groups = real_groups()
    with group(groups, ("memory",)) as path:
        seen = read_memory(host, groups, path)
        assert seen is not None and seen.size < 1 << 20 and seen.limit is None
    assert read_memory(host, groups, path) is None
    assert read_memory(host, Groups(host, {}, None, False), "/") is None
    assert swap_free(LocalHost()) >= 0
