"""`navarch certs`: what expires soon is told and renewed, and nothing else."""

from __future__ import annotations

import argparse
from datetime import timedelta
from pathlib import Path

import pytest

from lab.bootstrap import certificates, phases
from lab.bootstrap.configuration import ClusterConfiguration
from lab.bootstrap.rooted import inside
from lab.errors import LabError
from lab.verbs.certs import certs
from machinery import pki

CONFIG = ClusterConfiguration(encryption_algorithm="ECDSA-P256").on_host("cp1", "192.0.2.11")


def run(root: Path, action: str, within: str | None = None) -> int:
    return certs(argparse.Namespace(root=str(root), action=action, within=within), CONFIG)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    phases.initialise(CONFIG, tmp_path)
    folder = inside(tmp_path, CONFIG.certificates_dir)
    old = pki.read_certificates(folder / "apiserver.crt")[0]
    short = pki.reissue(certificates.authority(folder), old, algorithm="ECDSA-P256", lifetime=timedelta(hours=1))
    pki.write_pair(short, folder / "apiserver.crt", folder / "apiserver.key")
    return tmp_path


def test_what_expires_soon_makes_the_check_fail(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(host, "check") == 1
    assert "59m" in capsys.readouterr().out
    assert run(host, "check", "30m") == 0


def test_only_what_is_due_is_renewed(host: Path) -> None:
    folder = inside(host, CONFIG.certificates_dir)
    before = {path: path.read_bytes() for path in certificates.certificate_files(folder)}
    assert run(host, "renew", "720h") == 0
    changed = {path.name for path, content in before.items() if path.read_bytes() != content}
    assert changed == {"apiserver.crt"}
    assert run(host, "check") == 0


def test_the_kubelets_own_is_left_to_the_kubelet_once_it_rotates(host: Path) -> None:
    assert inside(host, "/etc/kubernetes/kubelet.conf") in phases.kubeconfigs(host)
    pki.write_file(inside(host, "/var/lib/kubelet/pki/kubelet-client-current.pem"), b"")
    assert inside(host, "/etc/kubernetes/kubelet.conf") not in phases.kubeconfigs(host)


def test_a_time_that_is_none_is_told(host: Path) -> None:
    with pytest.raises(LabError, match="--within soon"):
        run(host, "check", "soon")
