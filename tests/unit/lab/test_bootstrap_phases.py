"""`init` and `join` write what kubeadm writes: names, subjects, usages, modes."""

from __future__ import annotations

from pathlib import Path

import pytest
import ryaml
from cryptography import x509

from lab.bootstrap import certificates, components, kubeconfig, phases
from lab.bootstrap.configuration import ClusterConfiguration
from lab.bootstrap.reading import parse_configuration
from lab.errors import LabError
from machinery import pki
from machinery.client.config import ClientConfig
from machinery.pki import PKIError

CONFIG = parse_configuration(
    [
        {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "ClusterConfiguration",
            "controlPlaneEndpoint": "192.0.2.10:6443",
            "encryptionAlgorithm": "ECDSA-P256",
            "networking": {"serviceSubnet": "10.96.0.0/16", "podSubnet": "10.244.0.0/16"},
            "apiServer": {"certSANs": ["127.0.0.1"]},
        }
    ],
    "test",
)
CP1, CP2, W1 = (CONFIG.on_host(name, f"192.0.2.{i}") for name, i in (("cp1", 11), ("cp2", 12), ("w1", 21)))

# Source: https://kubernetes.io/docs/setup/best-practices/certificates/
KUBEADM_FILES = {
    "pki/ca.crt", "pki/ca.key", "pki/apiserver.crt", "pki/apiserver.key",
    "pki/apiserver-kubelet-client.crt", "pki/apiserver-kubelet-client.key",
    "pki/apiserver-etcd-client.crt", "pki/apiserver-etcd-client.key",
    "pki/front-proxy-ca.crt", "pki/front-proxy-ca.key", "pki/front-proxy-client.crt", "pki/front-proxy-client.key",
    "pki/etcd/ca.crt", "pki/etcd/ca.key", "pki/etcd/server.crt", "pki/etcd/server.key",
    "pki/etcd/peer.crt", "pki/etcd/peer.key", "pki/etcd/healthcheck-client.crt", "pki/etcd/healthcheck-client.key",
    "pki/sa.key", "pki/sa.pub",
    "admin.conf", "super-admin.conf", "controller-manager.conf", "scheduler.conf", "kubelet.conf",
    "manifests/etcd.yaml", "manifests/kube-apiserver.yaml", "manifests/kube-controller-manager.yaml",
    "manifests/kube-scheduler.yaml",
}  # fmt: skip


@pytest.fixture
def first(tmp_path: Path) -> Path:
    phases.initialise(CP1, tmp_path / "cp1")
    return tmp_path / "cp1"


def files(root: Path) -> set[str]:
    folder = root / "etc/kubernetes"
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def certificate(root: Path, stem: str) -> x509.Certificate:
    return pki.read_certificates(root / f"etc/kubernetes/pki/{stem}.crt")[0]


def test_the_first_host_has_kubeadms_files(first: Path) -> None:
    assert files(first) == KUBEADM_FILES
    for path in (first / "etc/kubernetes").rglob("*"):
        if path.suffix in (".key", ".conf", ".yaml"):
            assert path.stat().st_mode & 0o777 == 0o600, path


@pytest.mark.parametrize(
    ("stem", "authority", "name", "groups"),
    [
        ("apiserver", "ca", "kube-apiserver", []),
        ("apiserver-kubelet-client", "ca", "kube-apiserver-kubelet-client", ["kubeadm:cluster-admins"]),
        ("apiserver-etcd-client", "etcd/ca", "kube-apiserver-etcd-client", []),
        ("front-proxy-client", "front-proxy-ca", "front-proxy-client", []),
        ("etcd/server", "etcd/ca", "cp1", []),
        ("etcd/peer", "etcd/ca", "cp1", []),
        ("etcd/healthcheck-client", "etcd/ca", "kube-etcd-healthcheck-client", []),
    ],
)
def test_subjects_and_authorities(first: Path, stem: str, authority: str, name: str, groups: list[str]) -> None:
    found = certificate(first, stem)
    assert (pki.common_name(found), pki.organizations(found)) == (name, groups)
    pki.verify_issued_by(found, certificate(first, authority))


def test_names_of_serving_certificates(first: Path) -> None:
    services = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
    expected = {"cp1", *services, "10.96.0.1", "192.0.2.11", "192.0.2.10", "127.0.0.1"}
    assert set(pki.alternative_names(certificate(first, "apiserver"))) == expected
    assert set(pki.alternative_names(certificate(first, "etcd/server"))) == {
        "cp1", "localhost", "192.0.2.11", "127.0.0.1", "::1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("file", "user", "groups", "server"),
    [
        ("admin", "kubernetes-admin", ["kubeadm:cluster-admins"], "192.0.2.10"),
        ("super-admin", "kubernetes-super-admin", ["system:masters"], "192.0.2.10"),
        ("controller-manager", "system:kube-controller-manager", [], "192.0.2.11"),
        ("scheduler", "system:kube-scheduler", [], "192.0.2.11"),
        ("kubelet", "system:node:cp1", ["system:nodes"], "192.0.2.10"),
    ],
)
def test_kubeconfigs_can_be_used_and_say_who(first: Path, file: str, user: str, groups: list[str], server: str) -> None:
    path = first / f"etc/kubernetes/{file}.conf"
    found = kubeconfig.certificate_in(path)
    assert (pki.common_name(found), pki.organizations(found)) == (user, groups)
    config = ClientConfig.from_kubeconfig(path)
    assert config.server == f"https://{server}:6443"
    assert config.ssl_context() is not None


def test_running_again_changes_nothing(first: Path) -> None:
    def state() -> dict[Path, tuple[bytes, int]]:
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in first.rglob("*") if path.is_file()}

    before = state()
    assert phases.initialise(CP1, first).made == []
    assert state() == before


def test_another_control_plane_shares_the_authorities_and_nothing_else(first: Path, tmp_path: Path) -> None:
    second = tmp_path / "cp2"
    phases.join_control_plane(CP2, second, first / "etc/kubernetes/pki")
    assert files(second) == files(first) - {"super-admin.conf"}
    for name in certificates.SHARED_FILES:
        assert (second / "etc/kubernetes/pki" / name).read_bytes() == (first / "etc/kubernetes/pki" / name).read_bytes()
    assert certificate(second, "etcd/server") != certificate(first, "etcd/server")
    pki.verify_issued_by(certificate(second, "etcd/server"), certificate(first, "etcd/ca"))


def test_joining_without_the_shared_files_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(PKIError, match=r"missing ca\.crt, ca\.key, sa\.key"):
        phases.join_control_plane(CP2, tmp_path)


def test_a_worker_gets_no_key_of_an_authority(first: Path, tmp_path: Path) -> None:
    worker = tmp_path / "w1"
    phases.join_worker(W1, worker, first / "etc/kubernetes/pki")
    assert files(worker) == {"pki/ca.crt", "kubelet.conf"}
    assert pki.common_name(kubeconfig.certificate_in(worker / "etc/kubernetes/kubelet.conf")) == "system:node:w1"


def test_a_host_without_address_is_told_to_say_it(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="advertiseAddress is not set"):
        phases.initialise(ClusterConfiguration(encryption_algorithm="ECDSA-P256"), tmp_path)


def test_a_certificate_of_another_authority_or_for_other_names_is_refused(first: Path) -> None:
    folder = first / "etc/kubernetes/pki"
    with pytest.raises(PKIError, match=r"apiserver\.crt: is not valid for 192\.0\.2\.99"):
        certificates.ensure_certificates(CONFIG.on_host("cp1", "192.0.2.99"), folder)
    pki.write_pair(pki.make_authority("kubernetes", algorithm="ECDSA-P256"), folder / "ca.crt", folder / "ca.key")
    with pytest.raises(PKIError, match=r'apiserver\.crt: .*was not issued by "kubernetes"'):
        certificates.ensure_certificates(CP1, folder)


def test_renewal_keeps_subjects_names_and_authorities(first: Path) -> None:
    folder = first / "etc/kubernetes/pki"
    old, ca = certificate(first, "apiserver"), (folder / "ca.crt").read_bytes()
    admin = kubeconfig.certificate_in(first / "etc/kubernetes/admin.conf")
    certificates.renew(CONFIG, folder)
    phases.renew_kubeconfigs(CONFIG, first)
    new = certificate(first, "apiserver")
    assert new.serial_number != old.serial_number
    assert pki.alternative_names(new) == pki.alternative_names(old)
    assert (folder / "ca.crt").read_bytes() == ca
    renewed = kubeconfig.certificate_in(first / "etc/kubernetes/admin.conf")
    assert renewed.subject == admin.subject
    assert renewed.serial_number != admin.serial_number
    certificates.ensure_certificates(CP1, folder)


def test_node_files_say_what_kubeadms_say(first: Path) -> None:
    kubelet = ryaml.loads((first / components.KUBELET_CONFIG.lstrip("/")).read_text())
    assert kubelet["clusterDNS"] == ["10.96.0.10"]
    assert kubelet["authentication"]["anonymous"] == {"enabled": False}
    assert kubelet["authorization"] == {"mode": "Webhook"}
    assert kubelet["staticPodPath"] == "/etc/kubernetes/manifests"
    said = (first / components.KUBELET_FLAGS_FILE.lstrip("/")).read_text()
    assert said == (
        'KUBELET_KUBEADM_ARGS="--hostname-override=cp1 --node-ip=192.0.2.11 '
        '--register-with-taints=node-role.kubernetes.io/control-plane:NoSchedule"\n'
    )


def test_component_flags_name_files_that_exist(first: Path) -> None:
    for arguments in (components.etcd(CP1), components.api_server(CP1), components.controller_manager(CP1)):
        for argument in arguments:
            value = argument.partition("=")[2]
            if value.startswith("/etc/kubernetes"):
                assert (first / value.lstrip("/")).exists(), argument


def test_extra_arguments_stand_in_place_of_the_defaults() -> None:
    assert components.override((("a", "1"), ("b", "2")), (("b", "3"), ("b", "4"), ("c", "5"))) == (
        ("a", "1"), ("b", "3"), ("b", "4"), ("c", "5"),
    )  # fmt: skip
    assert components.command_line((("b", "2"), ("a", "1"))) == ["--a=1", "--b=2"]


def test_a_persons_kubeconfig_gains_and_loses_the_cluster_and_keeps_the_rest() -> None:
    pair = pki.self_signed_server("x")
    added = kubeconfig.kubeconfig(CP1, kubeconfig.ADMIN, pair.certificate_pem, pair)
    own = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "work", "cluster": {"server": "https://work"}}],
        "contexts": [{"name": "work", "context": {"cluster": "work", "user": "me"}}],
        "users": [{"name": "me", "user": {}}],
        "current-context": "work",
    }
    merged = kubeconfig.merged(own, added, "navarch")
    assert merged["current-context"] == "navarch"
    assert [entry["name"] for entry in merged["contexts"]] == ["work", "navarch"]
    assert kubeconfig.merged(merged, added, "navarch") == merged
    assert kubeconfig.without(merged, "navarch") == own | {"current-context": ""}
