"""The manifests of the control plane: what kubeadm writes, and only rewritten when something changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ryaml

from lab.bootstrap import certificates, phases, staticfiles, staticpods
from lab.bootstrap.configuration import ClusterConfiguration, Etcd
from lab.bootstrap.reading import parse_configuration
from lab.bootstrap.rooted import inside
from lab.errors import LabError
from machinery.api.meta import annotations_of

DOCUMENT: dict[str, Any] = {
    "apiVersion": "kubeadm.k8s.io/v1beta4",
    "kind": "ClusterConfiguration",
    "kubernetesVersion": "v1.36.2+build.7",
    "imageRepository": "registry.example:5000/k8s",
    "controlPlaneEndpoint": "192.0.2.10:6443",
    "encryptionAlgorithm": "ECDSA-P256",
    "etcd": {"local": {"imageTag": "3.5.1-0", "extraEnvs": [{"name": "GOGC", "value": "50"}]}},
    "apiServer": {
        "extraArgs": [{"name": "v", "value": "4"}],
        "extraVolumes": [
            {"name": "audit", "hostPath": "/var/log/audit", "mountPath": "/audit", "pathType": "Directory"}
        ],
    },
}
CP1 = parse_configuration([DOCUMENT], "test").on_host("cp1", "192.0.2.11")


def pods(config: ClusterConfiguration, root: Path) -> dict[str, dict[str, Any]]:
    return {pod.name: pod.make(config, root) for pod in staticpods.of(config)}


def container(pod: dict[str, Any]) -> dict[str, Any]:
    [only] = pod["spec"]["containers"]
    return dict(only)


def test_what_all_have_in_common(tmp_path: Path) -> None:
    made = pods(CP1, tmp_path)
    assert list(made) == ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"]
    for name, pod in made.items():
        assert pod["metadata"]["labels"] == {"component": name, "tier": "control-plane"}
        assert pod["metadata"]["namespace"] == "kube-system"
        spec = pod["spec"]
        assert (spec["hostNetwork"], spec["priorityClassName"]) == (True, "system-node-critical")
        assert spec["priority"] == 2000001000
        assert spec["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
        own = container(pod)
        assert own["command"][0] == name
        assert own["resources"]["requests"]["cpu"]
        mounted = {mount["name"] for mount in own["volumeMounts"]}
        assert mounted == {volume["name"] for volume in spec["volumes"]}
        start = own["startupProbe"]
        assert (start["periodSeconds"] * start["failureThreshold"], start["httpGet"]["port"]) == (240, "probe-port")
        assert own["ports"][0]["name"] == "probe-port"


@pytest.mark.parametrize(
    ("name", "live", "ready", "scheme", "port", "host"),
    [
        ("etcd", "/metrics", "/health", "HTTP", 2381, "127.0.0.1"),
        ("kube-apiserver", "/livez", "/readyz", "HTTPS", 6443, "192.0.2.11"),
        ("kube-controller-manager", "/healthz", None, "HTTPS", 10257, "127.0.0.1"),
        ("kube-scheduler", "/livez", "/readyz", "HTTPS", 10259, "127.0.0.1"),
    ],
)
def test_probes(tmp_path: Path, name: str, live: str, ready: str | None, scheme: str, port: int, host: str) -> None:
    own = container(pods(CP1, tmp_path)[name])
    assert own["ports"][0]["containerPort"] == port
    assert own["livenessProbe"]["httpGet"] == {"host": host, "path": live, "port": "probe-port", "scheme": scheme}
    assert (own["livenessProbe"]["periodSeconds"], own["livenessProbe"]["failureThreshold"]) == (10, 8)
    if ready is None:
        assert "readinessProbe" not in own
    else:
        assert own["readinessProbe"]["httpGet"]["path"] == ready
        assert own["readinessProbe"]["periodSeconds"] == (5 if name == "etcd" else 1)


def test_images_follow_version_repository_and_tag(tmp_path: Path) -> None:
    made = pods(CP1, tmp_path)
    assert container(made["kube-apiserver"])["image"] == "registry.example:5000/k8s/kube-apiserver:v1.36.2_build.7"
    assert container(made["etcd"])["image"] == "registry.example:5000/k8s/etcd:3.5.1-0"
    assert container(made["etcd"])["env"] == [{"name": "GOGC", "value": "50"}]


def test_extra_arguments_and_volumes(tmp_path: Path) -> None:
    pod = pods(CP1, tmp_path)["kube-apiserver"]
    assert "--v=4" in container(pod)["command"]
    assert {"name": "audit", "hostPath": {"path": "/var/log/audit", "type": "Directory"}} in pod["spec"]["volumes"]
    assert {"name": "audit", "mountPath": "/audit"} in container(pod)["volumeMounts"]


def test_advertised_addresses_are_annotations(tmp_path: Path) -> None:
    made = pods(CP1, tmp_path)
    address = annotations_of(made["kube-apiserver"])["kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint"]
    assert address == "192.0.2.11:6443"
    url = annotations_of(made["etcd"])["kubeadm.kubernetes.io/etcd.advertise-client-urls"]
    assert url == "https://192.0.2.11:2379"


def test_more_authorities_are_mounted_where_the_host_has_them(tmp_path: Path) -> None:
    (tmp_path / "usr/share/ca-certificates").mkdir(parents=True)
    names = {volume["name"] for volume in pods(CP1, tmp_path)["kube-apiserver"]["spec"]["volumes"]}
    assert names == {"ca-certs", "usr-share-ca-certificates", "k8s-certs", "audit"}


def test_with_an_external_etcd_there_is_no_pod_of_it(tmp_path: Path) -> None:
    document = {"endpoints": ["https://192.0.2.5:2379"], "caFile": "/etc/etcd/ca.crt"}
    external = parse_configuration([DOCUMENT | {"etcd": {"external": document}}], "test").on_host("cp1", "192.0.2.11")
    made = pods(external, tmp_path)
    assert "etcd" not in made
    volumes = made["kube-apiserver"]["spec"]["volumes"]
    assert {"name": "etcd-certs-0", "hostPath": {"path": "/etc/etcd", "type": "DirectoryOrCreate"}} in volumes


def test_a_configuration_that_changed_changes_just_the_manifests_concerned(tmp_path: Path) -> None:
    phases.initialise(CP1, tmp_path)
    assert staticfiles.write(CP1, tmp_path) == []
    newer = replace(CP1, etcd=replace(CP1.etcd, image_tag="3.5.2-0"))
    assert staticfiles.write(newer, tmp_path) == ["/etc/kubernetes/manifests/etcd.yaml"]


def test_renewed_certificates_replace_the_pods_that_read_them_at_their_start_alone(tmp_path: Path) -> None:
    phases.initialise(CP1, tmp_path)
    assert staticfiles.refresh_certificates(CP1, tmp_path) == []
    certificates.renew(CP1, inside(tmp_path, CP1.certificates_dir))
    assert staticfiles.refresh_certificates(CP1, tmp_path) == ["kube-apiserver"]
    phases.renew_kubeconfigs(CP1, tmp_path)
    assert staticfiles.refresh_certificates(CP1, tmp_path) == ["kube-controller-manager", "kube-scheduler"]
    assert staticfiles.write(CP1, tmp_path) == []


def test_a_member_that_joined_later_keeps_what_it_knows_of_the_others(tmp_path: Path) -> None:
    phases.initialise(CP1, tmp_path)
    manifest = staticfiles.read(tmp_path, "etcd")
    command = manifest["spec"]["containers"][0]["command"]
    command[:] = [flag for flag in command if not flag.startswith("--initial-cluster=")]
    known = ["--initial-cluster=cp2=https://192.0.2.12:2380", "--initial-cluster-state=existing"]
    staticfiles.put(tmp_path, "etcd", manifest | {"spec": {"containers": [{"command": [*command, *known]}]}})
    staticfiles.write(replace(CP1, etcd=Etcd(image_tag="3.5.2-0")), tmp_path)
    flags = staticfiles.read(tmp_path, "etcd")["spec"]["containers"][0]["command"]
    assert set(known) <= set(flags)
    assert len([flag for flag in flags if flag.startswith("--initial-cluster")]) == 2


def test_a_pod_that_is_not_there_or_not_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"kube-scheduler\.yaml: there is no such static pod"):
        staticfiles.read(tmp_path, "kube-scheduler")
    path = staticfiles.path_of(tmp_path, "etcd")
    path.parent.mkdir(parents=True)
    path.write_text(ryaml.dumps({"a": 1}) + "---\n" + ryaml.dumps({"a": 2}))
    with pytest.raises(LabError, match="not the manifest of one pod"):
        staticfiles.read(tmp_path, "etcd")


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (
            {"extraVolumes": [{"name": "x", "hostPath": "/x"}]},
            r"extraVolumes\[0\]\.mountPath: must be given",
        ),
        ({"extraVolumes": {}}, r"apiServer\.extraVolumes: expected a list"),
        ({"extraVolumes": [{"name": "x", "hostPath": "/x", "mountPath": "/x", "mode": 1}]}, "unknown field mode"),
    ],
)
def test_a_wrong_volume_is_named_by_its_path(part: dict[str, Any], told: str) -> None:
    with pytest.raises(Exception, match=told):
        parse_configuration([DOCUMENT | {"apiServer": part}], "test")
