"""examples/web.yaml, from `kubectl apply` to `kubectl delete`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from lab_images import BUSYBOX

if TYPE_CHECKING:
    from live_lab import Eventually, LiveLab

pytest_plugins = ["live_lab"]

MANIFEST = "examples/web.yaml"
KILL_FIRST_PROCESS = r"""
for process in /proc/[0-9]*; do
    grep -q "$1" $process/cgroup 2>/dev/null || continue  # of another pod
    tr '\0' ' ' <$process/cmdline | grep -q httpd || continue  # the sandbox's
    [ "$(awk '/^NSpid:/ { print $NF }' $process/status)" = 1 ] || continue
    exec kill -KILL ${process#/proc/}
done
exit 1
"""


class Web:
    """The example, applied in a namespace."""

    def __init__(self, lab: LiveLab, namespace: str, eventually: Eventually) -> None:
        self.lab, self.namespace, self._eventually = lab, namespace, eventually

    def kubectl(self, *argv: str, check: bool = True, seconds: float = 60) -> str:
        return self.lab.kubectl("-n", self.namespace, *argv, check=check, seconds=seconds).stdout

    def pods(self) -> list[dict[str, Any]]:
        """Those that are not being deleted."""
        items = self.lab.get("pods", "-n", self.namespace, "-l", "app=web")["items"]
        return [pod for pod in items if not pod["metadata"].get("deletionTimestamp")]

    def names(self) -> set[str]:
        return {pod["metadata"]["name"] for pod in self.pods()}

    def ready(self, count: int, seconds: float = 60) -> list[dict[str, Any]]:
        def found() -> list[dict[str, Any]]:
            pods = self.pods()
            return pods if len(pods) == count and all(is_ready(pod) for pod in pods) else []

        return list(self._eventually(found, seconds, f"{count} pods ready"))

    def start_client(self) -> None:
        """A pod to ask from."""
        self.kubectl("run", "client", f"--image={BUSYBOX}", "--restart=Never", "--command", "--", "sleep", "3600")
        self.kubectl("wait", "pod/client", "--for=condition=Ready", "--timeout=30s")

    def ask(self, url: str) -> str:
        """Which pod answers the client; "" if none does."""
        asked = ["exec", "client", "--", "timeout", "3", "wget", "-q", "-O", "-", url]
        return hostname_in(self.kubectl(*asked, check=False))

    def service(self) -> dict[str, Any]:
        return dict(self.lab.get("service", "web", "-n", self.namespace)["spec"])


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = {each["type"]: each["status"] for each in pod.get("status", {}).get("conditions", [])}
    return conditions.get("Ready") == "True"


def hostname_in(page: str) -> str:
    """Which pod answered; "" if none did."""
    return next((line.split()[1] for line in page.splitlines() if line.startswith("hostname: ")), "")


@pytest.fixture
def web(lab: LiveLab, namespace: str, eventually: Eventually) -> Web:
    applied = Web(lab, namespace, eventually)
    applied.kubectl("apply", "-f", MANIFEST)
    applied.ready(3)
    return applied


def test_three_pods_run_on_both_workers_within_ten_seconds(
    lab: LiveLab, namespace: str, eventually: Eventually
) -> None:
    web = Web(lab, namespace, eventually)
    web.kubectl("apply", "-f", MANIFEST)
    pods = web.ready(3, 10)
    assert {pod["spec"]["nodeName"] for pod in pods} == {"w1", "w2"}
    assert all(pod["status"]["phase"] == "Running" for pod in pods)
    addresses = [pod["status"]["podIP"] for pod in pods]
    assert len(set(addresses)) == 3
    assert all(address.startswith("10.244.") for address in addresses)


def test_the_service_answers_from_everywhere(web: Web, eventually: Eventually) -> None:
    spec, names = web.service(), web.names()
    cluster, port = f"http://{spec['clusterIP']}/", spec["ports"][0]["nodePort"]
    for host in ("w1", "w2", "cp1"):
        eventually(lambda host=host: hostname_in(web.lab.fetch(host, cluster)) in names, 20, f"ClusterIP from {host}")
    for address in [worker.address for worker in web.lab.topology.worker_hosts]:
        url = f"http://{address}:{port}/"
        eventually(lambda url=url: hostname_in(web.lab.fetch("lb", url)) in names, 20, f"NodePort {url} from lb")
    web.start_client()
    eventually(lambda: web.ask(cluster) in names, 20, "ClusterIP from a pod")
    eventually(lambda: web.ask("http://web/") in names, 20, "the Service's name from a pod")


def test_a_network_policy_closes_the_pods_to_others(web: Web, eventually: Eventually, tmp_path: Path) -> None:
    web.start_client()
    eventually(lambda: web.ask("http://web/") in web.names(), 20, "everybody is let in")
    policy = tmp_path / "policy.json"
    spec = {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]}
    body = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "closed"}, "spec": spec}
    policy.write_text(json.dumps(body))
    web.kubectl("apply", "-f", str(policy))
    eventually(lambda: not web.ask("http://web/"), 20, "nobody is let in")
    web.kubectl("delete", "networkpolicy", "closed")
    eventually(lambda: web.ask("http://web/") in web.names(), 20, "everybody is let in again")


def test_the_service_spreads_over_its_pods(web: Web, eventually: Eventually) -> None:
    url, seen = f"http://{web.service()['clusterIP']}/", set[str]()

    def all_seen() -> bool:
        seen.add(hostname_in(web.lab.fetch("w1", url)))
        return web.names() <= seen

    eventually(all_seen, 40, "every pod has answered")


def test_logs_and_exec(web: Web, eventually: Eventually) -> None:
    pod = sorted(web.names())[0]
    address = next(p["status"]["podIP"] for p in web.pods() if p["metadata"]["name"] == pod)
    eventually(lambda: hostname_in(web.lab.fetch("w1", f"http://{address}:8080/")) == pod, 10, "the pod answers")
    eventually(lambda: "url:/" in web.kubectl("logs", pod), 10, "it logs that")
    assert web.kubectl("exec", pod, "--", "hostname").strip() == pod
    failed = web.lab.kubectl("-n", web.namespace, "exec", pod, "--", "sh", "-c", "echo oops >&2; exit 7", check=False)
    assert failed.returncode == 7
    assert "oops" in failed.stderr
    echoed = web.lab.kubectl("-n", web.namespace, "exec", "-i", pod, "--", "cat", stdin="over and back\n")
    assert echoed.stdout == "over and back\n"


def test_scale_up_and_down(web: Web, eventually: Eventually) -> None:
    web.kubectl("scale", "deployment/web", "--replicas=5")
    web.ready(5)
    web.kubectl("scale", "deployment/web", "--replicas=1")
    web.ready(1)

    def table() -> list[str]:
        return web.kubectl("get", "deployment", "web", "--no-headers").split()[:4]

    eventually(lambda: table() == ["web", "1/1", "1", "1"], 10, "the Deployment says so")


def test_rollout_restart_and_undo(web: Web, eventually: Eventually) -> None:
    before = web.names()
    web.kubectl("rollout", "restart", "deployment/web")
    web.kubectl("rollout", "status", "deployment/web", "--timeout=90s", seconds=100)
    eventually(lambda: not before & web.names(), 30, "all pods are new")

    web.kubectl("set", "image", "deployment/web", "echo=registry.navarch.local:5000/echo:no-such-tag")
    waiting = {"ErrImagePull", "ImagePullBackOff"}

    def stuck() -> bool:
        statuses = [s for pod in web.pods() for s in pod["status"].get("containerStatuses", [])]
        return any(s.get("state", {}).get("waiting", {}).get("reason") in waiting for s in statuses)

    eventually(stuck, 60, "the bad image can't be pulled, and the pod says so")
    assert len([pod for pod in web.pods() if is_ready(pod)]) >= 2  # the old ones still serve
    web.kubectl("rollout", "undo", "deployment/web")
    web.kubectl("rollout", "status", "deployment/web", "--timeout=90s", seconds=100)
    assert "echo:1.0" in {pod["spec"]["containers"][0]["image"].rpartition("/")[2] for pod in web.ready(3)}
    assert len(web.kubectl("rollout", "history", "deployment/web").strip().splitlines()) >= 4


def test_a_deleted_pod_is_replaced(web: Web, eventually: Eventually) -> None:
    before = web.names()
    gone = sorted(before)[0]
    web.kubectl("delete", "pod", gone)
    assert gone not in web.names()
    pods = web.ready(3)
    assert len({pod["metadata"]["name"] for pod in pods} - before) == 1


def test_a_killed_container_is_restarted(web: Web, eventually: Eventually) -> None:
    pod = web.pods()[0]
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    web.lab.inside(pod["spec"]["nodeName"], "sh", "-c", KILL_FIRST_PROCESS, "sh", uid)

    def restarted() -> bool:
        now = web.lab.get("pod", name, "-n", web.namespace)
        return bool(now["status"]["containerStatuses"][0]["restartCount"] == 1 and is_ready(now))

    eventually(restarted, 30, "the container was started again")
    web.ready(3)
    last = web.lab.get("pod", name, "-n", web.namespace)["status"]["containerStatuses"][0]["lastState"]
    assert last["terminated"]["exitCode"] == 137


def test_describe_tells_the_pods_story(web: Web) -> None:
    told = web.kubectl("describe", "pod", sorted(web.names())[0])
    for expected in ("Scheduled", "Pulled", "Created", "Started", "Node:", "Controlled By:  ReplicaSet/web-"):
        assert expected in told
    assert "NewReplicaSet:" in web.kubectl("describe", "deployment", "web")
    assert "Endpoints:" in web.kubectl("describe", "service", "web")


def test_deleting_the_manifest_leaves_nothing(web: Web, eventually: Eventually) -> None:
    web.kubectl("delete", "-f", MANIFEST)
    remains = "pods,replicasets,deployments,endpointslices,services"
    eventually(lambda: web.lab.get(remains, "-n", web.namespace)["items"] == [], 60, "all of it is gone")


def test_applying_again_changes_nothing_and_a_change_changes_only_that(web: Web) -> None:
    before = web.names()
    again = web.kubectl("apply", "-f", MANIFEST)
    assert "deployment.apps/web unchanged" in again
    assert "service/web unchanged" in again
    assert web.names() == before
    changed = Path(MANIFEST).read_text().replace("replicas: 3", "replicas: 4")
    told = web.lab.kubectl("-n", web.namespace, "apply", "-f", "-", stdin=changed).stdout
    assert "deployment.apps/web configured" in told
    assert before < {pod["metadata"]["name"] for pod in web.ready(4)}


def test_a_job_runs_to_its_end(lab: LiveLab, namespace: str) -> None:
    lab.kubectl("-n", namespace, "create", "job", "sum", f"--image={BUSYBOX}", "--", "sh", "-c", "echo $((20 + 22))")
    lab.kubectl("-n", namespace, "wait", "job/sum", "--for=condition=Complete", "--timeout=60s", seconds=70)
    assert lab.kubectl("-n", namespace, "logs", "job/sum").stdout == "42\n"


def test_configuration_reaches_a_pod(lab: LiveLab, namespace: str, eventually: Eventually) -> None:
    lab.kubectl("-n", namespace, "create", "configmap", "settings", "--from-literal=colour=blue")
    lab.kubectl("-n", namespace, "create", "secret", "generic", "word", "--from-literal=word=hush")
    manifest = f"""
apiVersion: v1
kind: Pod
metadata: {{name: reader}}
spec:
  restartPolicy: Never
  containers:
    - name: reader
      image: {BUSYBOX}
      command:
        - sh
        - -c
        - |
          cat /settings/colour; echo " $WORD"; ls /scratch
          head -c 3 /var/run/secrets/kubernetes.io/serviceaccount/token
      env: [{{name: WORD, valueFrom: {{secretKeyRef: {{name: word, key: word}}}}}}]
      volumeMounts:
        - {{name: settings, mountPath: /settings}}
        - {{name: scratch, mountPath: /scratch}}
  volumes:
    - {{name: settings, configMap: {{name: settings}}}}
    - {{name: scratch, emptyDir: {{}}}}
"""
    lab.kubectl("-n", namespace, "apply", "-f", "-", stdin=manifest)

    def finished() -> bool:
        return bool(lab.get("pod", "reader", "-n", namespace)["status"].get("phase") == "Succeeded")

    eventually(finished, 60, "the pod has ended")
    assert lab.kubectl("-n", namespace, "logs", "reader").stdout == "blue hush\neyJ"
