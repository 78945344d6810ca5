"""Whose a group is, by its path."""

from __future__ import annotations

import pytest

from stead.cgroups.owners import owner_by_path, unit_in

ID = "0a" * 32


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/system.slice/nginx.service", ("nginx.service", True)),
        ("/system.slice/nginx.service/pool/1", ("nginx.service", False)),
        ("/system.slice/system-getty.slice/getty@tty1.service", ("getty@tty1.service", True)),
        ("/system.slice", ("system.slice", True)),
        ("/init.scope", ("init.scope", True)),
        ("/a.slice/_cpu.slice", ("cpu.slice", True)),
        ("/a.slice/plain/x.service", ("a.slice", False)),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/x.service", ("user@1000.service", False)),
        ("/batch/x.service", None),
        ("/", None),
    ],
)
def test_the_unit_of_a_path(path, unit):
    assert unit_in(path) == unit


@pytest.mark.parametrize(
    ("path", "kind", "yields"),
    [
        ("/system.slice/nginx.service", "systemd", False),
        ("/system.slice", "systemd", False),
        ("/system.slice/tenant.service/worker", "delegated", False),
        ("/user.slice/user-7.slice/user@7.service/app.slice/x.service", "user", True),
        (f"/docker/{ID}", "docker", True),
        (f"/system.slice/docker-{ID}.scope", "docker", True),
        ("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-0a.scope", "kubelet", True),
        ("/kubepods/besteffort/pod1/0a", "kubelet", True),
        (f"/machine.slice/libpod-{ID}.scope", "podman", True),
        ("/system.slice/crio-0a.scope", "crio", True),
        ("/machine.slice/machine-qemu\\x2d1.scope", "libvirt", True),
        ("/lxc.payload.web", "lxc", True),
        ("/stead/4711-500", "stead", False),
        (f"/batch/{ID}/init", "containerd", True),
        ("/steady", "nobody", False),
        ("/batch", "nobody", False),
    ],
)
def test_the_owner_of_a_path_where_systemd_manages(path, kind, yields):
    owner = owner_by_path(path, systemd=True)
    assert (owner.kind, owner.yields) == (kind, yields)


def test_without_systemd_its_names_mean_nothing():
    assert owner_by_path("/system.slice/nginx.service", systemd=False).kind == "nobody"
    assert owner_by_path(f"/docker/{ID}", systemd=False).yields


def test_a_user_managers_groups_are_named():
    owner = owner_by_path("/user.slice/user-7.slice/user@7.service/app.slice", systemd=True)
    assert owner.name == "the systemd of user 7" and owner.unit == "user@7.service" and not owner.whole
