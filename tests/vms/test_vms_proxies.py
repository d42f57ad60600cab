"""Services on machines with kernels of their own, in each of kube-proxy's modes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import ryaml
from test_e2e_web import Web, hostname_in

if TYPE_CHECKING:
    from live_lab import Eventually, LiveLab

pytest_plugins = ["live_lab"]
pytestmark = pytest.mark.timeout(600)

RULES = {
    "iptables": ("iptables-save -t nat", "default/kubernetes:https cluster IP"),
    "ipvs": ("cat /proc/net/ip_vs", "TCP "),
    "nftables": ("nft list tables", "kube-proxy"),
}
"""What shows on a node that the mode is in use."""


def set_mode(lab: LiveLab, mode: str) -> None:
    """As an administrator does: the ConfigMap, then new pods."""
    found = lab.get("configmap", "kube-proxy", "-n", "kube-system")["data"]["config.conf"]
    changed = ryaml.dumps({**ryaml.loads(found), "mode": mode})
    patch = json.dumps({"data": {"config.conf": changed}})
    lab.kubectl("patch", "configmap", "kube-proxy", "-n", "kube-system", "--type=merge", "-p", patch)
    lab.kubectl("rollout", "restart", "daemonset/kube-proxy", "-n", "kube-system")
    lab.kubectl("rollout", "status", "daemonset/kube-proxy", "-n", "kube-system", "--timeout=240s", seconds=250)


@pytest.mark.parametrize("mode", ["iptables", "ipvs", "nftables"])
def test_a_service_answers_in_every_mode(lab: LiveLab, namespace: str, eventually: Eventually, mode: str) -> None:
    set_mode(lab, mode)
    web = Web(lab, namespace, eventually)
    web.kubectl("apply", "-f", "examples/web.yaml")
    web.ready(3, 120)
    spec, names = web.service(), web.names()
    command, expected = RULES[mode]
    nodes = [host.name for host in (lab.topology.control_plane_hosts[0], *lab.topology.worker_hosts)]
    for node in nodes:
        eventually(lambda node=node: expected in lab.inside(node, *command.split()).stdout, 30, f"{mode} on {node}")
    cluster, port = f"http://{spec['clusterIP']}/", spec["ports"][0]["nodePort"]
    for node in nodes:
        eventually(lambda node=node: hostname_in(lab.fetch(node, cluster)) in names, 30, f"ClusterIP from {node}")
    for worker in lab.topology.worker_hosts:
        url = f"http://{worker.address}:{port}/"
        eventually(lambda url=url: hostname_in(lab.fetch("lb", url)) in names, 30, f"NodePort {url} from outside")
    web.start_client()
    eventually(lambda: web.ask("http://web/") in names, 30, "the Service's name from a pod")
    seen = set[str]()

    def all_seen() -> bool:
        seen.add(web.ask("http://web/"))
        return names <= seen

    eventually(all_seen, 60, "every pod has answered")
