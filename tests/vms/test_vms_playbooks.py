"""Ansible on a cluster that is there: again, with another release, with new certificates, and for a backup."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from traffic import check, traffic

from lab.layout import PROJECT
from lab.vms.place import Place
from lab.vms.up import playbook

if TYPE_CHECKING:
    from live_lab import Eventually, LiveLab

pytest_plugins = ["live_lab"]
pytestmark = pytest.mark.timeout(1800)


def _recap(place: Place) -> dict[str, dict[str, int]]:
    """The last run's counts by host."""
    text = (place.folder / "ansible.log").read_text().rpartition("PLAY RECAP")[2]
    lines = re.findall(r"^(\w+)\s+: (.*)$", text, re.MULTILINE)
    return {host: {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", counts)} for host, counts in lines}


def test_a_second_run_changes_nothing(lab: LiveLab) -> None:
    place = Place(lab.layout)
    playbook(place, "site.yml")
    recap = _recap(place)
    assert set(recap) == {machine.name for machine in place.machines().all}
    assert {host: counts["changed"] for host, counts in recap.items()} == dict.fromkeys(recap, 0)


def test_a_backup_has_a_snapshot_and_the_authorities(lab: LiveLab) -> None:
    place = Place(lab.layout)
    playbook(place, "backup.yml")
    folder = place.folder / "backup"
    assert (folder / "snapshot.db").stat().st_size > 100_000
    assert (folder / "pki" / "etcd" / "ca.key").stat().st_mode & 0o077 == 0


def test_new_certificates_while_a_client_writes_and_watches(
    lab: LiveLab, namespace: str, eventually: Eventually
) -> None:
    before = lab.inside("cp1", "cat", "/etc/kubernetes/pki/apiserver.crt").stdout
    with traffic(lab.layout.kubeconfig, namespace, patience_seconds=60) as client:
        eventually(lambda: len(client.acknowledged) >= 10, 60, "the client writes")
        playbook(Place(lab.layout), "certificates.yml")
    check(client)
    assert lab.inside("cp1", "cat", "/etc/kubernetes/pki/apiserver.crt").stdout != before


def _other_release(folder: Path) -> str:
    """A checkout with something changed; the command that is its `navarch`."""
    for name in ("machinery", "controlplane", "agent", "lab", "ansible", "vagrant"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "pyproject.toml", folder)
    with (folder / "machinery" / "clock.py").open("a") as file:
        file.write("\n# Another release.\n")
    return f"env PYTHONPATH={folder} {sys.executable} -P -m lab"


def test_a_rolling_upgrade_while_a_client_writes_and_watches(
    lab: LiveLab, namespace: str, eventually: Eventually, tmp_path: Path
) -> None:
    def images() -> set[str]:
        pods = lab.get("pods", "-n", "kube-system", "-l", "tier=control-plane")["items"]
        return {pod["spec"]["containers"][0]["image"] for pod in pods if "apiserver" in pod["metadata"]["name"]}

    before = images()
    with traffic(lab.layout.kubeconfig, namespace, patience_seconds=60) as client:
        eventually(lambda: len(client.acknowledged) >= 10, 60, "the client writes")
        playbook(Place(lab.layout), "upgrade.yml", {"navarch": _other_release(tmp_path)})
    check(client)
    assert len(images()) == 1
    assert images() != before
    for name in ("w1", "w2"):
        assert not lab.get("node", name)["spec"].get("unschedulable")
