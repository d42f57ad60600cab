"""The configuration files that real programs get; the programs themselves check them where they can."""

from __future__ import annotations

import json
import subprocess
import tomllib
from pathlib import Path

import pytest

from lab.daemons import containerd, haproxy, registry
from lab.daemons.containerd import Abilities
from lab.topology import Topology
from machinery import pki


def test_haproxy_accepts_its_configuration(tmp_path: Path) -> None:
    ca = tmp_path / "ca.crt"
    pki.write_file(ca, pki.make_authority("kubernetes", algorithm="ECDSA-P256").certificate_pem)
    text = haproxy.configuration([":6443"], Topology().control_plane_hosts)
    file = tmp_path / "haproxy.cfg"
    # The namespace and the CA's place exist on the host alone.
    file.write_text(text.replace(" namespace machine", "").replace(haproxy.CA_FILE, str(ca)))
    checked = subprocess.run(["haproxy", "-c", "-f", str(file)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_haproxy_listens_where_it_is_told_and_knows_every_api_server() -> None:
    binds = ["127.0.0.1:7443 namespace machine", "10.77.0.10:6443"]
    text = haproxy.configuration(binds, Topology(control_planes=2).control_plane_hosts)
    assert "bind 127.0.0.1:7443 namespace machine\n" in text
    assert "bind 10.77.0.10:6443\n" in text
    assert text.count("\n    server ") == 2
    assert "httpchk" in text


def test_the_only_api_server_is_never_taken_out() -> None:
    text = haproxy.configuration(["10.77.0.10:6443"], Topology(control_planes=1).control_plane_hosts)
    assert text.count("\n    server ") == 1
    assert "check" not in text.split("\nbackend ")[1]


@pytest.mark.parametrize(("oom", "overlay"), [(True, True), (False, False)])
def test_containerd_is_told_what_the_machine_cannot_do(oom: bool, overlay: bool) -> None:
    parsed = tomllib.loads(containerd.configuration("r:5000/pause:3.10", Abilities(oom, overlay)))
    cri = parsed["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["restrict_oom_score_adj"] is not oom
    assert cri["containerd"]["snapshotter"] == ("overlayfs" if overlay else "native")
    assert cri["sandbox_image"] == "r:5000/pause:3.10"
    assert tomllib.loads(containerd.registry_hosts("10.77.0.10", 5000))["server"] == "http://10.77.0.10:5000"


def test_a_capability_is_read_from_the_mask() -> None:
    status = "Name:\tx\nCapEff:\t000001fffeffffff\n"
    assert not containerd.has_capability(status, 24)
    assert containerd.has_capability(status, 21)
    assert not containerd.has_capability("", 21)


def test_the_registry_listens_where_hosts_look_for_it() -> None:
    parsed = json.loads(registry.configuration("10.77.0.10", 5000))
    assert parsed["http"]["addr"] == "10.77.0.10:5000"
    assert parsed["storage"]["filesystem"]["rootdirectory"] == registry.STORE
