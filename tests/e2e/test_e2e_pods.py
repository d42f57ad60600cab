"""What nodes do with pods, on the lab: resizing them, bringing back what died, keeping what runs."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

from lab_images import BUSYBOX

if TYPE_CHECKING:
    from live_lab import Eventually, LiveLab

pytest_plugins = ["live_lab"]


def _run(lab: LiveLab, namespace: str, name: str, *, node: str = "w1", **fields: Any) -> None:
    container = {"name": "c", "image": BUSYBOX, "command": ["sleep", "3600"], **fields}
    spec = {"nodeName": node, "terminationGracePeriodSeconds": 1, "containers": [container]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec}
    lab.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    lab.kubectl("wait", "-n", namespace, f"pod/{name}", "--for=condition=Ready", "--timeout=60s", seconds=70)


def _status(lab: LiveLab, namespace: str, name: str) -> dict[str, Any]:
    return dict(lab.get("pod", name, "-n", namespace)["status"]["containerStatuses"][0])


def test_a_pod_is_resized_in_place(lab: LiveLab, namespace: str, eventually: Eventually) -> None:
    """In-place Pod Resize, read and replace endpoints."""
    small = {"requests": {"cpu": "10m", "memory": "20Mi"}, "limits": {"cpu": "20m", "memory": "30Mi"}}
    _run(lab, namespace, "sized", resources=small)
    before = _status(lab, namespace, "sized")
    more = {"requests": {"cpu": "30m", "memory": "25Mi"}, "limits": {"cpu": "40m", "memory": "35Mi"}}
    patch = json.dumps({"spec": {"containers": [{"name": "c", "resources": more}]}})
    lab.kubectl("patch", "pod", "sized", "-n", namespace, "--subresource", "resize", "-p", patch)

    def resized() -> dict[str, Any]:
        now = _status(lab, namespace, "sized")
        return now if now["resources"] == more else {}

    after = eventually(resized, 30, "the new resources shown")
    assert (after["containerID"], after["restartCount"]) == (before["containerID"], 0)
    assert after["allocatedResources"] == more["requests"]
    files = ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max")
    seen = lab.kubectl("exec", "-n", namespace, "sized", "--", "sh", "-c", f"cat {' '.join(files)} 2>/dev/null; true")
    assert seen.stdout.split() == [str(35 << 20)]


def test_a_killed_kubelet_finds_its_pods_as_they_were(lab: LiveLab, namespace: str, eventually: Eventually) -> None:
    _run(lab, namespace, "stays")
    before = _status(lab, namespace, "stays")
    pid = int((lab.layout.runtime / "pids" / "w1" / "kubelet.pid").read_text())
    os.kill(pid, signal.SIGKILL)

    def again() -> bool:
        text = (lab.layout.runtime / "pids" / "w1" / "kubelet.pid").read_text().strip()
        return bool(text) and int(text) != pid

    eventually(again, 30, "the kubelet started again")
    _run(lab, namespace, "next")
    after = _status(lab, namespace, "stays")
    assert (after["containerID"], after["restartCount"], after["ready"]) == (before["containerID"], 0, True)


def test_bad_pods_say_what_is_wrong_and_harm_nobody(lab: LiveLab, namespace: str, eventually: Eventually) -> None:
    _run(lab, namespace, "good")
    bad: dict[str, tuple[dict[str, Any], str]] = {
        "image": ({"image": "registry.navarch.local:5000/nothing:1"}, "ErrImagePull"),
        "name": ({"image": "Not An Image"}, "InvalidImageName"),
        "command": ({"command": ["/nothing"]}, "RunContainerError"),
        "config": ({"envFrom": [{"configMapRef": {"name": "missing"}}]}, "CreateContainerConfigError"),
    }
    for name, (fields, _) in bad.items():
        container = {"name": "c", "image": BUSYBOX, "command": ["sleep", "3600"], **fields}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"nodeName": "w1", "containers": [container]},
        }
        lab.kubectl("apply", "-f", "-", stdin=json.dumps(pod))

    def reasons() -> set[str]:
        found = {}
        for pod in lab.get("pods", "-n", namespace)["items"]:
            for status in pod["status"].get("containerStatuses", []):
                waiting = status["state"].get("waiting") or status["lastState"].get("terminated") or {}
                found[pod["metadata"]["name"]] = waiting.get("reason", "")
        aliases = {
            "ImagePullBackOff": "ErrImagePull",
            "CrashLoopBackOff": "RunContainerError",
            "StartError": "RunContainerError",
        }
        told = {
            name for name, (_, reason) in bad.items() if aliases.get(found.get(name, ""), found.get(name)) == reason
        }
        return told if told == set(bad) else set()

    eventually(reasons, 60, "each of them to say what is wrong")
    assert _status(lab, namespace, "good")["ready"]
