"""What administrators do to keep a cluster alive: back up and restore, replace a member, renew certificates."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import hashes

from lab.bootstrap import certificates
from lab.bootstrap.rooted import inside
from lab.daemons.plan import RENEW_WITHIN
from lab.hosts import pods
from machinery import pki

if TYPE_CHECKING:
    from live_lab import Eventually, LiveLab

pytest_plugins = ["live_lab"]


def mark(lab: LiveLab, namespace: str, name: str) -> None:
    lab.kubectl("-n", namespace, "create", "configmap", name)


def marks(lab: LiveLab, namespace: str) -> set[str]:
    listed = lab.kubectl("-n", namespace, "get", "configmaps", "-o", "name", check=False).stdout.split()
    return {each.rpartition("/")[2] for each in listed} - {"kube-root-ca.crt"}


def served(lab: LiveLab, host: str, address: str) -> str:
    """The fingerprint of the certificate that an API server shows; "" if it does not answer."""
    script = (
        "import hashlib, ssl\n"
        f"pem = ssl.get_server_certificate(('{address}', 6443))\n"
        "print(hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest())\n"
    )
    return lab.inside(host, "python3", "-c", script, check=False).stdout.strip()


@pytest.mark.timeout(300)
def test_a_cluster_is_restored_from_a_snapshot(lab: LiveLab, namespace: str, eventually: Eventually) -> None:
    """What was written after the snapshot is gone, all before it is there, and the cluster works on."""
    mark(lab, namespace, "before")
    first, *_ = hosts = [host.name for host in lab.topology.control_plane_hosts]
    told = lab.navarch("etcd", "snapshot", "--host", first).stdout
    path = told.partition(": revision")[0]
    mark(lab, namespace, "after")
    saved = inside(lab.layout.root(first), path)
    assert saved.stat().st_mode & 0o777 == 0o600
    for host in hosts[1:]:
        shutil.copy(saved, inside(lab.layout.root(host), path))
    for host in hosts:
        assert "what was there is in" in lab.navarch("etcd", "restore", path, "--host", host).stdout
    lab.up()
    eventually(lambda: marks(lab, namespace) == {"before"}, 60, "the state of the snapshot")
    # As the runbook says: whoever watched before knows of revisions that never were.
    for each in (*lab.topology.control_plane_hosts, *lab.topology.worker_hosts):
        lab.navarch("stop", each.name, "kubelet")
        lab.navarch("start", each.name, "kubelet")
    lab.kubectl("-n", "kube-system", "rollout", "restart", "daemonset,deployment")
    mark(lab, namespace, "again")
    lab.kubectl("-n", namespace, "apply", "-f", "examples/web.yaml")
    lab.kubectl("-n", namespace, "rollout", "status", "deployment/web", "--timeout=90s", seconds=100)
    assert lab.navarch("etcd", "status", "--host", first).stdout.count("healthy") == len(hosts) - 1


@pytest.mark.timeout(240)
def test_a_member_whose_disk_was_lost_is_replaced(lab: LiveLab, namespace: str, eventually: Eventually) -> None:
    mark(lab, namespace, "one")
    lab.navarch("stop", "cp2", "etcd")
    data = inside(lab.layout.root("cp2"), "/var/lib/etcd")
    for each in data.iterdir():
        shutil.rmtree(each)
    sick = lab.navarch("etcd", "status", "--host", "cp1", check=False)
    assert sick.returncode == 1
    mark(lab, namespace, "two")
    lab.navarch("start", "cp2", "etcd")
    assert "has joined" in lab.navarch("etcd", "join", "--host", "cp2").stdout
    assert lab.navarch("etcd", "status", "--host", "cp2").returncode == 0
    lab.up()
    assert marks(lab, namespace) == {"one", "two"}
    assert (data / "member").is_dir()


def test_a_snapshot_that_can_not_be_used_stops_nothing(lab: LiveLab, tmp_path: Path) -> None:
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"not a snapshot")
    refused = lab.navarch("etcd", "restore", str(broken), "--host", "cp1", check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("navarch: error: etcd: ")
    missing = lab.navarch("etcd", "restore", str(tmp_path / "none"), "--host", "cp1", check=False)
    assert "no such snapshot" in missing.stderr
    assert "etcd" in pods.wanted(lab.layout, "cp1")


def test_etcd_is_defragmented_member_after_member(lab: LiveLab) -> None:
    lab.navarch("etcd", "compact", "--host", "cp1")
    told = lab.navarch("etcd", "defragment", "--host", "cp1").stdout.splitlines()
    assert sorted(line.partition(":")[0] for line in told) == ["cp1", "cp2", "cp3"]


@pytest.mark.timeout(240)
def test_certificates_renew_themselves_before_they_expire(lab: LiveLab, eventually: Eventually) -> None:
    """By just what the lab's job runs; one API server is replaced, by the kubelet, and the others serve meanwhile."""
    folder = inside(lab.layout.root("cp3"), "/etc/kubernetes/pki")
    old = pki.read_certificates(folder / "apiserver.crt")[0]
    short = pki.reissue(certificates.authority(folder), old, algorithm="ECDSA-P256", lifetime=timedelta(minutes=30))
    pki.write_pair(short, folder / "apiserver.crt", folder / "apiserver.key")
    found = lab.navarch("certs", "check", "--host", "cp3", check=False)
    assert found.returncode == 1
    assert "29m" in found.stdout
    assert lab.navarch("certs", "check", "--within", "10m", "--host", "cp3").returncode == 0

    renewed = lab.navarch("certs", "renew", "--within", RENEW_WITHIN, "--host", "cp3").stdout
    assert "renewed /etc/kubernetes/pki/apiserver.crt" in renewed
    assert "apiserver-kubelet-client" not in renewed
    assert "kube-apiserver: its manifest says so" in renewed
    assert lab.navarch("certs", "check", "--host", "cp3").returncode == 0
    new = pki.read_certificates(folder / "apiserver.crt")[0]
    address = next(host.address for host in lab.topology.control_plane_hosts if host.name == "cp3")
    expected = new.fingerprint(hashes.SHA256()).hex()
    eventually(lambda: served(lab, "cp3", address) == expected, 60, "the API server serves the new certificate")
    assert "nothing is to be renewed" in lab.navarch("certs", "renew", "--within", RENEW_WITHIN, "--host", "cp3").stdout
    lab.up()
