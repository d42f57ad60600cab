"""What machines are given: the files of each part, the cluster's configuration, the inventory."""

from __future__ import annotations

import subprocess
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.bootstrap.reading import parse_configuration
from lab.daemons import haproxy
from lab.daemons.containerd import Abilities
from lab.errors import LabError, NotRunning
from lab.layout import Layout
from lab.topology import Role
from lab.vms import clusterfile, forward, hostfiles, inventory
from lab.vms.hostfiles import Own, files
from lab.vms.machines import Machines, read_machines
from lab.vms.place import Place
from lab.vms.settled import difference
from machinery import pki
from machinery.settings import read_yaml

MACHINES = read_machines()
ADDITIONS = clusterfile.Additions("v1.36.0+abc", "3.4.23-def")


def _own(name: str, machines: Machines = MACHINES) -> Own:
    able = Abilities(raise_oom_score=True, overlay=True)
    return Own(machines.named(name), able, "vec0", "registry.navarch.local:5000/pause:3.10", modules=False)


def test_every_machine_knows_the_others_and_the_registry() -> None:
    hosts = files("base", MACHINES, _own("w1"))["/etc/hosts"].splitlines()
    assert "10.77.0.13 cp3" in hosts
    assert "10.77.0.10 registry.navarch.local" in hosts


def test_modules_are_named_only_where_the_kernel_loads_any() -> None:
    assert "/etc/modules-load.d/kubernetes.conf" not in files("base", MACHINES, _own("w1"))
    loading = replace(_own("w1"), modules=True)
    assert "br_netfilter\n" in files("base", MACHINES, loading)["/etc/modules-load.d/kubernetes.conf"]


def test_containerd_and_crio_look_in_the_same_place_for_images() -> None:
    texts = files("containerd", MACHINES, _own("w1"))
    assert tomllib.loads(texts["/etc/containerd/certs.d/_default/hosts.toml"])["server"] == "http://10.77.0.10:5000"
    texts = files("crio", MACHINES, _own("w1"))
    mirrors = tomllib.loads(texts["/etc/containers/registries.conf"])["registry"]
    assert {each["location"] for each in mirrors} == {"10.77.0.10:5000"}
    assert "docker.io" in {each["prefix"] for each in mirrors}


def test_the_registry_is_on_the_first_balancer_alone() -> None:
    two = MACHINES.groups[0]
    machines = replace(MACHINES, groups=(replace(two, count=2, first_address="10.77.0.5"), *MACHINES.groups[1:]))
    assert list(files("registry", machines, _own("lb1", machines))) == ["/etc/docker/registry/config.yml"]
    without = MACHINES.resized({Role.LOAD_BALANCER: 0, Role.CONTROL_PLANE: 1})
    assert list(files("registry", without, _own("cp1", without))) == ["/etc/docker/registry/config.yml"]
    assert "10.77.0.11 registry.navarch.local" in files("base", without, _own("w1", without))["/etc/hosts"]
    assert files("registry", machines, _own("lb2", machines)) == {}


def test_two_balancers_share_an_address_by_keepalived() -> None:
    group = replace(MACHINES.groups[0], count=2, first_address="10.77.0.5")
    machines = replace(MACHINES, groups=(group, *MACHINES.groups[1:]))
    text = files("loadbalancer", machines, _own("lb2", machines))["/etc/keepalived/keepalived.conf"]
    assert "interface vec0\n" in text
    assert "10.77.0.9/24\n" in text
    assert "unicast_src_ip 10.77.0.6\n" in text
    assert "/etc/keepalived/keepalived.conf" not in files("loadbalancer", MACHINES, _own("lb1"))


def test_haproxy_accepts_its_configurations(tmp_path: Path) -> None:
    authority = tmp_path / "ca.crt"
    pki.write_file(authority, pki.make_authority("kubernetes", algorithm="ECDSA-P256").certificate_pem)
    text = files("loadbalancer", MACHINES, _own("lb1"))[hostfiles.HAPROXY].replace(haproxy.CA_FILE, str(authority))
    for each in (text, forward.configuration(6443, "10.77.0.10:6443", "")):
        file = tmp_path / "haproxy.cfg"
        file.write_text(each)
        checked = subprocess.run(["haproxy", "-c", "-f", file], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
    assert "namespace vms\n" in forward.configuration(6443, "10.77.0.10:6443", "vms")


def test_a_part_that_there_is_not_is_refused() -> None:
    with pytest.raises(LabError, match="no part 'docker': choose base, "):
        files("docker", MACHINES, _own("w1"))


def test_only_what_differs_is_written(tmp_path: Path) -> None:
    texts = files("base", MACHINES, _own("w1"))
    assert set(hostfiles.write(texts, tmp_path)) == set(texts)
    assert hostfiles.write(texts, tmp_path) == []
    assert (tmp_path / "usr/local/bin/navarch").stat().st_mode & 0o777 == 0o755


def test_the_cluster_file_becomes_complete_and_is_read_as_kubeadms() -> None:
    documents = clusterfile.complete(read_yaml(clusterfile.FILE), MACHINES, ADDITIONS)
    config = parse_configuration(documents, "cluster.yaml")
    assert config.endpoint == "10.77.0.10:6443"
    assert config.kubernetes_version == "v1.36.0+abc"
    assert config.etcd.image_tag == "3.4.23-def"
    members = dict(config.etcd.extra_args)["initial-cluster"]
    assert members == ",".join(f"cp{i}=https://10.77.0.1{i}:2380" for i in (1, 2, 3))
    assert dict(config.api_server.arguments)["etcd-servers"].count("https://") == 3
    assert {"10.77.0.10", "lb1", "127.0.0.1"} <= set(config.api_server_cert_sans)


def test_what_the_user_wrote_stays() -> None:
    mine: list[dict[str, Any]] = [
        {
            "kind": "ClusterConfiguration",
            "controlPlaneEndpoint": "k8s.example:443",
            "apiServer": {"extraArgs": [{"name": "etcd-servers", "value": "https://127.0.0.1:2379"}]},
            "etcd": {"local": {"extraArgs": [{"name": "snapshot-count", "value": "5000"}]}},
        }
    ]
    cluster, proxy = clusterfile.complete(mine, MACHINES, replace(ADDITIONS, proxy_mode="ipvs"))
    assert cluster["controlPlaneEndpoint"] == "k8s.example:443"
    assert cluster["apiServer"]["extraArgs"] == mine[0]["apiServer"]["extraArgs"]
    names = [each["name"] for each in cluster["etcd"]["local"]["extraArgs"]]
    assert names == ["snapshot-count", "initial-cluster"]
    assert proxy["mode"] == "ipvs"
    with pytest.raises(LabError, match="no ClusterConfiguration"):
        clusterfile.complete([], MACHINES, ADDITIONS)


def test_emulated_machines_are_given_time() -> None:
    documents = read_yaml(clusterfile.FILE)
    cluster, *_ = clusterfile.complete(documents, MACHINES, replace(ADDITIONS, patience=8.0))
    assert cluster["apiServer"]["timeoutForControlPlane"] == "1920s"
    cluster, *_ = clusterfile.complete(documents, MACHINES, ADDITIONS)
    assert "timeoutForControlPlane" not in cluster["apiServer"]


def test_the_inventory_has_every_machine_in_its_group() -> None:
    found = inventory.inventory(MACHINES, {"state": "/somewhere"})
    assert found["loadbalancer"]["hosts"] == ["lb1"]
    assert found["control_plane"]["hosts"] == ["cp1", "cp2", "cp3"]
    assert found["worker"]["hosts"] == ["w1", "w2"]
    assert found["registry"]["hosts"] == ["lb1"]
    assert set(found["all"]["children"]) == {"loadbalancer", "control_plane", "worker", "registry"}
    assert found["_meta"]["hostvars"]["w2"] == {"ansible_host": "10.77.0.102"}
    assert found["all"]["vars"] == {"state": "/somewhere"}


def test_without_a_lab_it_is_told_how_to_get_one() -> None:
    place = Place(Layout("there-is-none"))
    for ask in (place.machines, place.provider):
        with pytest.raises(NotRunning, match="navarch up --vms"):
            ask()


def _pod(image: str, ready: str = "True", digest: str = "one") -> dict[str, Any]:
    return {
        "metadata": {"annotations": {"navarch.dev/certificates": digest}},
        "spec": {"containers": [{"image": image, "command": ["etcd"]}]},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


@pytest.mark.parametrize(
    ("pod", "told"),
    [
        (_pod("etcd:2"), ""),
        (_pod("etcd:1"), "its image is not the manifest's yet"),
        (_pod("etcd:2", "False"), "it is not ready"),
        (_pod("etcd:2", digest="two"), "its certificates are not those of the manifest yet"),
    ],
)
def test_a_static_pod_has_settled_when_it_is_the_manifests_and_ready(pod: dict[str, Any], told: str) -> None:
    assert difference(_pod("etcd:2"), pod) == told


def test_workers_are_counted_by_the_command_line() -> None:
    assert len(MACHINES.resized({Role.WORKER: 0}).of(Role.WORKER)) == 0
