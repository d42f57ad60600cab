"""The `navarch` command where it has nothing to work with, or is asked for what can't be."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lab.layout import PROJECT, Layout
from lab.topology import Topology


def navarch(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    name = environment.pop("NAVARCH_LAB", f"test-{secrets.token_hex(4)}")
    return subprocess.run(
        [sys.executable, "-m", "lab", *argv],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
        env=os.environ | {"NAVARCH_LAB": name} | environment,
    )


@pytest.mark.parametrize(
    ("argv", "status", "told"),
    [
        (["status"], 1, "there is no lab: run `navarch up`"),
        (["kubeconfig"], 1, "there is no lab"),
        (["token"], 1, "there is no lab"),
        (["logs", "cp1", "etcd"], 1, "there is no lab"),
        (["enter", "w1"], 1, "there is no lab"),
        (["stop", "w1"], 1, "there is no lab"),
        (["kill", "cp1", "etcd"], 1, "there is no lab"),
        (["up", "--workers", "99"], 1, "--workers 99: choose 0 to 50"),
        (["up", "--proxy-mode", "userspace"], 2, "choose from"),
        (["up", "--colour"], 2, "unrecognized arguments: --colour"),
        (["fly"], 2, "invalid choice: 'fly'"),
        (["join"], 1, "needs --certificates-from"),
        (["init", "--config", "/no/such/file"], 1, "cannot read /no/such/file: No such file or directory"),
        (["addons", "--root", "/no/such"], 1, "/no/such/etc/kubernetes/pki/ca.crt"),
        (["mark-control-plane", "--root", "/no/such"], 1, "admin.conf: no such file; --kubeconfig names another"),
        (["images", "save"], 1, "say which file to write"),
        (["images", "burn"], 2, "invalid choice: 'burn'"),
    ],
)
def test_one_clear_line(argv: list[str], status: int, told: str) -> None:
    done = navarch(*argv)
    assert done.returncode == status, done
    assert len(done.stderr.splitlines()) == 1, done
    assert told in done.stderr


def test_a_port_in_use_is_told_before_anything_is_made() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        name = f"test-{secrets.token_hex(4)}"
        done = navarch("up", "--api-port", str(port), NAVARCH_LAB=name)
    assert done.returncode == 1
    assert f"port {port} of 127.0.0.1 is in use" in done.stderr
    assert not Path(f"/var/lib/navarch/{name}").exists()


def test_a_missing_package_is_named_by_its_package() -> None:
    done = navarch("up", "--api-port", "1", PATH="/nowhere")
    assert done.returncode == 1
    assert "Debian packages are missing: " in done.stderr
    assert "etcd-server" in done.stderr
    assert "run `navarch setup`" in done.stderr


@pytest.mark.parametrize("suite", ["all", "e2e", "chaos", "required"])
def test_a_lab_that_is_too_small_for_the_tests_is_told_before_they_run(suite: str) -> None:
    name = f"test-{secrets.token_hex(4)}"
    folder = Path(f"/var/lib/navarch/{name}")
    folder.mkdir(parents=True)
    try:
        (folder / Layout(name).topology_file.name).write_text(Topology(control_planes=1, workers=1).to_json())
        done = navarch("test", suite, NAVARCH_LAB=name)
    finally:
        shutil.rmtree(folder)
    assert done.returncode == 1
    assert "the lab that is there is too small for these tests (control planes: 1 of " in done.stderr
    assert "run `navarch down` first" in done.stderr


def test_down_without_a_lab_is_no_error() -> None:
    done = navarch("down")
    assert (done.returncode, done.stdout.strip()) == (0, "There is no lab.")


def test_init_join_and_certs_on_a_machine_of_its_own(tmp_path: Path) -> None:
    config = tmp_path / "kubeadm.yaml"
    config.write_text(
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nencryptionAlgorithm: ECDSA-P256\n"
        "controlPlaneEndpoint: 192.0.2.10:6443\n"
    )

    def bootstrap(verb: str, name: str, address: str, *more: str) -> str:
        where = ["--root", str(tmp_path / name), "--node-name", name, "--apiserver-advertise-address", address]
        done = navarch(verb, "--config", str(config), *where, *more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    pki = str(tmp_path / "cp1/etc/kubernetes/pki")
    assert "wrote /etc/kubernetes/pki/ca" in bootstrap("init", "cp1", "192.0.2.11")
    bootstrap("join", "cp2", "192.0.2.12", "--control-plane", "--certificates-from", pki)
    bootstrap("join", "w1", "192.0.2.21", "--certificates-from", pki)
    shown = navarch("certs", "check-expiration", "--root", str(tmp_path / "cp2"), COLUMNS="200")
    assert shown.returncode == 0, shown.stderr
    assert "etc/kubernetes/pki/etcd/peer.crt" in shown.stdout
    assert "admin.conf" in shown.stdout
    renewed = navarch("certs", "renew", "--root", str(tmp_path / "cp2"))
    assert "renewed /etc/kubernetes/pki/apiserver.crt" in renewed.stdout, renewed
    missing = navarch("certs", "check-expiration", "--root", str(tmp_path / "none"))
    assert "no certificates in" in missing.stderr
    listed = navarch("images", "list", "--config", str(config)).stdout.split()
    assert "registry.navarch.local:5000/kube-apiserver:v1.36.0" in listed
    assert "registry.navarch.local:5000/etcd:3.4.23-0" in listed
    config.write_text(
        f"{config.read_text()}---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\n"
        f"nodeRegistration: {{criSocket: 'unix://{tmp_path}/none.sock'}}\n"
    )
    pulled = navarch("images", "pull", "--config", str(config))
    assert pulled.returncode == 1
    assert "none.sock" in pulled.stderr
