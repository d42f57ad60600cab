"""A worker and a control-plane machine whose plug is pulled."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from lab_images import BUSYBOX, IMPATIENT
from traffic import check, traffic

if TYPE_CHECKING:
    from live_lab import Eventually, LiveLab

pytest_plugins = ["live_lab"]
pytestmark = pytest.mark.timeout(900)


def _ready(lab: LiveLab, node: str) -> str:
    conditions = lab.get("node", node)["status"]["conditions"]
    return str(next(each["status"] for each in conditions if each["type"] == "Ready"))


def test_pods_of_a_worker_that_died_run_elsewhere_and_it_comes_back(
    lab: LiveLab, namespace: str, eventually: Eventually
) -> None:
    container = {"name": "c", "image": BUSYBOX, "command": ["sleep", "3600"]}
    template = {
        "metadata": {"labels": {"app": "moving"}},
        "spec": {"containers": [container], "tolerations": IMPATIENT, "terminationGracePeriodSeconds": 1},
    }
    spec = {"replicas": 4, "selector": {"matchLabels": {"app": "moving"}}, "template": template}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "moving"}, "spec": spec}
    lab.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(deployment))
    lab.kubectl("rollout", "status", "-n", namespace, "deployment/moving", "--timeout=120s", seconds=130)

    def running() -> list[dict[str, Any]]:
        items = lab.get("pods", "-n", namespace, "-l", "app=moving")["items"]
        return [pod for pod in items if not pod["metadata"].get("deletionTimestamp")]

    assert {pod["spec"]["nodeName"] for pod in running()} == {"w1", "w2"}
    lab.navarch("stop", "w2")
    try:
        eventually(lambda: _ready(lab, "w2") == "Unknown", 120, "the node is seen to be gone")

        def moved() -> bool:
            pods = [pod for pod in running() if pod["status"].get("phase") == "Running"]
            return len(pods) == 4 and {pod["spec"]["nodeName"] for pod in pods} == {"w1"}

        eventually(moved, 180, "all pods run on the other worker")
    finally:
        lab.navarch("start", "w2", seconds=300)
    eventually(lambda: _ready(lab, "w2") == "True", 180, "the node is back")


def test_a_control_plane_that_died_is_not_missed(lab: LiveLab, namespace: str, eventually: Eventually) -> None:
    lease = lab.get("lease", "kube-controller-manager", "-n", "kube-system")
    leader = lease["spec"]["holderIdentity"].split("_")[0]
    with traffic(lab.layout.kubeconfig, namespace, patience_seconds=60) as client:
        eventually(lambda: len(client.acknowledged) >= 20, 60, "the client writes")
        lab.navarch("stop", leader)
        try:
            goal = len(client.acknowledged) + 60
            eventually(lambda: len(client.acknowledged) >= goal, 180, "the client goes on writing")
            name = f"after-{leader}"
            lab.kubectl("create", "deployment", name, "-n", namespace, f"--image={BUSYBOX}", "--", "sleep", "3600")
            lab.kubectl("rollout", "status", "-n", namespace, f"deployment/{name}", "--timeout=180s", seconds=190)
        finally:
            lab.navarch("start", leader, seconds=300)
        eventually(lambda: _ready(lab, leader) == "True", 240, "the node is back")
    check(client)
    eventually(lambda: lab.navarch("status", check=False).returncode == 0, 180, "all its components run again")
