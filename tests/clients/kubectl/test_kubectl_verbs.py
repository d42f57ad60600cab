"""Every verb of kubectl that an API server can serve without containers, in the words that kubectl's users know.

What is not here needs a kubelet: logs, exec, attach, cp and port-forward have their tests with real pods
(tests/e2e), and here the refusal of hollow nodes.
"""

from __future__ import annotations

import base64
import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest
from kubectl_objects import GADGET, GADGETS, ROLE, SETS, WEB
from kubectl_program import WAIT, Kubectl

from lab.layout import PROJECT
from machinery import pki
from machinery.testing.cluster import Cluster

TOOLS = PROJECT / ".venv-clients" / "tools"


def programs() -> list[str]:
    """Those that `navarch test` has installed (`test all` a new kubectl, `test clients` an old one too), else any."""
    found = [str(TOOLS / age / "kubectl") for age in ("new", "old") if (TOOLS / age / "kubectl").exists()]
    return found or [shutil.which("kubectl") or "kubectl"]


@pytest.fixture(params=programs(), ids=lambda path: Path(path).parent.name)
def kubectl(
    request: pytest.FixtureRequest, navarch_cluster: Cluster, navarch_namespace: str, tmp_path: Path
) -> Kubectl:
    return Kubectl(request.param, navarch_cluster, navarch_namespace, tmp_path, {"HOME": str(tmp_path)})


def test_looking_at_the_cluster(kubectl: Kubectl) -> None:
    assert "Server Version: v1.36" in kubectl("version")
    assert "Kubernetes control plane" in kubectl("cluster-info")
    assert "deploy" in kubectl("api-resources", "--api-group=apps")
    assert "apps/v1\n" in kubectl("api-versions")
    assert kubectl("get", "--raw", "/readyz") == "ok"
    assert "ConfigMap" in kubectl("explain", "configmap")
    assert "readinessGates" in kubectl("explain", "deployment.spec", "--recursive")
    assert "FIELDS" in kubectl("explain", "job.spec.template", "--output=plaintext-openapiv2")
    assert "Ready" in kubectl("get", "nodes")
    assert "KubeletReady" in kubectl("describe", "node", "hollow-0")
    kubectl("cluster-info", "dump", "--output-directory", "dump")
    assert (kubectl.folder / "dump" / "nodes.json").exists()
    assert "error: Metrics API not available" in kubectl("top", "nodes", status=1)
    assert 'the server doesn\'t have a resource type "nothing"' in kubectl("get", "nothing", status=1)


def test_apply_and_diff(kubectl: Kubectl) -> None:
    web = kubectl.file("web.yaml", WEB)
    assert "deployment.apps/web created" in kubectl("apply", "-f", web)
    assert kubectl("diff", "-f", web) == ""
    kubectl.file("web.yaml", WEB.replace("web:1", "web:2"))
    assert '+      - image: "web:2"'.replace('"', "") in kubectl("diff", "-f", web, status=1)
    assert "deployment.apps/web configured\nservice/web unchanged" in kubectl("apply", "-f", web)
    assert 'conflict with "kubectl-client-side-apply"' not in kubectl("apply", "--server-side", "-f", web)
    kubectl.file("web.yaml", WEB.replace("replicas: 2", "replicas: 3"))
    told = kubectl("apply", "--server-side", "--field-manager=other", "-f", web, status=1)
    assert ".spec.replicas" in told
    kubectl("apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", web)
    assert "image" in kubectl("apply", "view-last-applied", "deploy/web")
    assert "web configured" in kubectl("apply", "set-last-applied", "-f", web)
    kubectl("delete", "service", "web")
    kubectl.file("web.yaml", WEB.partition("---")[2])
    assert "deployment.apps/web pruned" in kubectl(
        "apply", "-f", web, "--prune", "-l", "app=web", "--prune-allowlist=apps/v1/Deployment"
    )


def test_kustomize(kubectl: Kubectl) -> None:
    kubectl.file("web.yaml", WEB)
    kubectl.file("kustomization.yaml", "resources: [web.yaml]\nnamePrefix: my-\nimages: [{name: web, newTag: '9'}]\n")
    assert "image: web:9" in kubectl("kustomize", ".")
    assert "deployment.apps/my-web created" in kubectl("apply", "-k", ".")
    assert 'deployment.apps "my-web" deleted' in kubectl("delete", "-k", ".")


def test_rollouts(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", kubectl.file("web.yaml", WEB), "-f", kubectl.file("sets.yaml", SETS))
    for what, container in (("deploy/web", "web"), ("sts/db", "db"), ("ds/agent", "agent")):
        kubectl("rollout", "status", what, WAIT)
        kubectl("set", "image", what, f"{container}={container}:2")
        kubectl("rollout", "status", what, WAIT)
        assert "2         <none>" in kubectl("rollout", "history", what)
        assert "Image:" in kubectl("rollout", "history", what, "--revision=2")
        kubectl("rollout", "undo", what)
        kubectl("rollout", "status", what, WAIT)
        image = kubectl("get", what, "-o", "jsonpath={.spec.template.spec.containers[0].image}")
        assert image == f"{container}:1"
        kubectl("rollout", "restart", what)
    assert "paused" in kubectl("rollout", "pause", "deploy/web")
    assert "resumed" in kubectl("rollout", "resume", "deploy/web")
    kubectl("rollout", "status", "deploy/web", WAIT)
    described = kubectl("describe", "deploy", "web")
    assert "ScalingReplicaSet" in described
    assert "NewReplicaSet:" in described


def test_scaling(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", kubectl.file("web.yaml", WEB))
    kubectl("scale", "deploy/web", "--replicas=3")
    told = kubectl("scale", "deploy/web", "--replicas=1", "--current-replicas=7", status=1)
    assert "Expected replicas to be 7, was 3" in told
    kubectl("wait", "--for=jsonpath={.status.readyReplicas}=3", "deploy/web", WAIT)
    kubectl("autoscale", "deploy/web", "--min=1", "--max=5")
    assert "Deployment/web" in kubectl("get", "hpa")
    assert "Reference:" in kubectl("describe", "hpa", "web")


def test_changing_objects(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", kubectl.file("web.yaml", WEB))
    kubectl.file("edit.sh", "#!/bin/sh\nsed -i 's/replicas: 2/replicas: 1/' \"$1\"\n")
    (kubectl.folder / "edit.sh").chmod(0o755)
    assert "web edited" in kubectl("edit", "deploy/web", environment={"EDITOR": "./edit.sh"})
    assert "no changes made" in kubectl("edit", "deploy/web", environment={"EDITOR": "true"})
    kubectl("label", "deploy/web", "a=b")
    assert "'a' already has a value (b)" in kubectl("label", "deploy/web", "a=c", status=1)
    kubectl("annotate", "deploy/web", "note=x")
    kubectl("patch", "deploy/web", "-p", '{"spec":{"minReadySeconds":0,"paused":false}}')
    kubectl("patch", "deploy/web", "--type=json", "-p", '[{"op":"remove","path":"/metadata/labels/a"}]')
    kubectl("patch", "deploy/web", "--subresource=scale", "--type=merge", "-p", '{"spec":{"replicas":2}}')
    kubectl("set", "env", "deploy/web", "A=B")
    kubectl("set", "resources", "deploy/web", "--limits=cpu=100m,memory=64Mi")
    kubectl("create", "serviceaccount", "robot")
    kubectl("set", "serviceaccount", "deploy/web", "robot")
    kubectl("set", "selector", "svc/web", "app=other")
    found = kubectl.get("deploy", "web")
    container = found["spec"]["template"]["spec"]["containers"][0]
    assert container["env"] == [{"name": "A", "value": "B"}]
    assert container["resources"]["limits"] == {"cpu": "100m", "memory": "64Mi"}
    assert found["spec"]["template"]["spec"]["serviceAccountName"] == "robot"
    assert found["spec"]["replicas"] == 2
    assert kubectl.get("svc", "web")["spec"]["selector"] == {"app": "other"}
    manifest = kubectl.file("live.yaml", kubectl("get", "svc", "web", "-o", "yaml").replace("port: 80", "port: 81", 1))
    assert "service/web replaced" in kubectl("replace", "-f", manifest)
    assert "the object has been modified" in kubectl("replace", "-f", manifest, status=1)


def test_creating_each_kind(kubectl: Kubectl) -> None:
    pair = pki.self_signed_server("example.com")
    kubectl.file("tls.crt", pair.certificate_pem.decode())
    kubectl.file("tls.key", pair.key_pem.decode())
    for made in (
        "configmap c --from-literal=a=b",
        "secret generic s --from-literal=a=b",
        "secret tls t --cert=tls.crt --key=tls.key",
        "secret docker-registry d --docker-server=x --docker-username=u --docker-password=p",
        "role r --verb=get --resource=pods",
        "rolebinding rb --role=r --serviceaccount=default:default",
        "cronjob cj --image=x --schedule=@yearly",
        "job j --from=cronjob/cj",
        "deployment dep --image=x",
        "ingress in --rule=foo.com/bar=web:80",
        "poddisruptionbudget p --selector=app=web --min-available=1",
        "quota q --hard=pods=9",
        "service clusterip ci --tcp=80:80",
        "service nodeport np --tcp=80",
        "service loadbalancer lb --tcp=80",
        "service externalname en --external-name=foo.com",
        "serviceaccount sa",
    ):
        assert "created" in kubectl("create", *made.split())
    assert kubectl("create", "token", "sa", "--duration=10m").count(".") == 2
    assert "(server dry run)" in kubectl("create", "configmap", "never", "--dry-run=server")
    assert 'configmaps "never" not found' in kubectl("get", "configmap", "never", status=1)
    assert 'configmaps "c" already exists' in kubectl("create", "configmap", "c", status=1)
    assert "exposed" in kubectl("expose", "deployment", "dep", "--port=80", "--name=dep2")
    assert "unknown field" in kubectl("create", "-f", "-", stdin=BAD_POD, status=1)
    assert "job.batch/j condition met" in kubectl("wait", "--for=condition=Complete", "job/j", WAIT)


BAD_POD = """
apiVersion: v1
kind: Pod
metadata: {name: bad}
spec: {containers: [{name: c, image: x, imagge: y}]}
"""


def test_reading(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", kubectl.file("web.yaml", WEB))
    kubectl("rollout", "status", "deploy/web", WAIT)
    assert "NOMINATED NODE" in kubectl("get", "pods", "-o", "wide")
    names = kubectl("get", "pods", "--field-selector=status.phase=Running", "-l", "app=web", "-o", "name").split()
    assert len(names) == 2
    assert kubectl("get", *names, "-o", "custom-columns=P:.status.phase", "--no-headers").split() == ["Running"] * 2
    assert kubectl("get", "pods", "--sort-by=.metadata.name", "--chunk-size=1", "-o", "name").split() == sorted(names)
    assert "managedFields" in kubectl("get", "deploy", "web", "-o", "yaml", "--show-managed-fields")
    described = kubectl("describe", names[0])
    assert "QoS Class:                   BestEffort" in described
    assert "Successfully assigned" in described
    assert "Endpoints:" in kubectl("describe", "svc", "web")
    assert "Scaled up replica set" in kubectl("events", "--for", "deploy/web")
    assert "SuccessfulCreate" in kubectl("get", "events")
    assert "service/web" in kubectl("get", "all")
    watched = kubectl("get", "pods", "--watch", "--request-timeout=1s")
    assert watched.count("Running") >= 2


def test_nodes(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", kubectl.file("web.yaml", WEB))
    kubectl("rollout", "status", "deploy/web", WAIT)
    kubectl("taint", "nodes", "hollow-0", "a=b:PreferNoSchedule")
    kubectl("taint", "nodes", "hollow-0", "a-")
    assert "cordoned" in kubectl("cordon", "hollow-0")
    assert "SchedulingDisabled" in kubectl("get", "node", "hollow-0")
    drained = kubectl("drain", "hollow-0", "--ignore-daemonsets", "--force", "--delete-emptydir-data", WAIT)
    assert "node/hollow-0 drained" in drained
    assert drained.count("evicting pod") >= 2
    kubectl("uncordon", "hollow-0")
    kubectl("rollout", "status", "deploy/web", WAIT)


def test_rights(kubectl: Kubectl) -> None:
    roles = kubectl.file(
        "roles.yaml", ROLE.replace("name: readers}", f"name: readers, namespace: {kubectl.namespace}}}")
    )
    assert "no" in kubectl("auth", "can-i", "list", "pods", "--as=bob", status=1)
    assert "reconciliation required create" in kubectl("auth", "reconcile", "-f", roles)
    assert kubectl("auth", "can-i", "list", "pods", "--as=bob") == "yes\n"
    kubectl("set", "subject", "rolebinding/readers", "--user=alice")
    assert "[get list]" in kubectl("auth", "can-i", "--list", "--as=alice")
    assert "kubernetes-admin" in kubectl("auth", "whoami")
    told = kubectl("get", "secrets", "--as=bob", status=1)
    assert 'User "bob" cannot list resource "secrets" in API group "" in the namespace' in told


def test_certificates(kubectl: Kubectl) -> None:
    for verb, told in (("approve", "Approved,Issued"), ("deny", "Denied")):
        name = f"{kubectl.namespace}-{verb}"
        request = base64.b64encode(pki.make_request(pki.new_key("ECDSA-P256"), "carol")).decode()
        spec = f"{{request: {request}, signerName: kubernetes.io/kube-apiserver-client, usages: [client auth]}}"
        text = "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\n"
        kubectl("create", "-f", "-", stdin=f"{text}metadata: {{name: {name}}}\nspec: {spec}\n")
        kubectl("certificate", verb, name)
        if verb == "approve":
            kubectl("wait", "--for=jsonpath={.status.certificate}", f"csr/{name}", WAIT)
        shown = kubectl("get", "csr", name)
        assert told in shown
        assert "kubernetes-admin" in shown
        kubectl("delete", "csr", name)


def test_custom_resources(kubectl: Kubectl) -> None:
    gadgets = kubectl.file("crd.yaml", GADGETS)
    kubectl("apply", "-f", gadgets)
    try:
        kubectl("wait", "--for=condition=Established", "crd/gadgets.kubectl.example.com", WAIT)
        gadget = kubectl.file("gadget.yaml", GADGET)
        assert "created" in kubectl("apply", "-f", gadget)
        assert kubectl("get", "gd").split() == ["NAME", "SIZE", "g", "2"]
        kubectl("scale", "gadget/g", "--replicas=5")
        assert "How many there are." in kubectl("explain", "gadget.spec.replicas")
        assert "Kind:         Gadget" in kubectl("describe", "gadget", "g")
        assert "serverside-applied" in kubectl("apply", "--server-side", "--force-conflicts", "-f", gadget)
        wrong = GADGET.replace("replicas: 2", "replicas: two")
        assert "spec.replicas: Invalid value" in kubectl("apply", "-f", "-", stdin=wrong, status=1)
        assert 'gadget.kubectl.example.com "g" deleted' in kubectl("delete", "gadgets", "--all")
    finally:
        kubectl("delete", "-f", gadgets)


def test_deleting(kubectl: Kubectl) -> None:
    web = kubectl.file("web.yaml", WEB)
    kubectl("apply", "-f", web)
    kubectl("rollout", "status", "deploy/web", WAIT)
    kubectl("delete", "-f", web, "--cascade=orphan")
    assert "web" in kubectl("get", "rs")
    kubectl("delete", "rs", "--all", "--cascade=foreground")
    assert "No resources found" in kubectl("get", "pods")
    kubectl("run", "one", "--image=x", "--labels=run=one")
    kubectl("delete", "pod", "one", "--force", "--grace-period=0")
    assert 'pods "one" not found' in kubectl("delete", "pod", "one", status=1)
    kubectl("delete", "pod", "one", "--ignore-not-found")


def test_what_needs_a_kubelet_is_refused_in_words(kubectl: Kubectl) -> None:
    kubectl("run", "one", "--image=x")
    kubectl("wait", "--for=condition=Ready", "pod/one", WAIT)
    told = "a hollow node runs no containers"
    for arguments in (
        ("logs", "one"),
        ("exec", "one", "--", "true"),
        ("attach", "one"),
        ("cp", "web.yaml", "one:/tmp/web.yaml"),
        ("port-forward", "pod/one", ":80"),
    ):
        kubectl.file("web.yaml", WEB)
        assert told in kubectl(*arguments, status=1)
    kubectl("debug", "one", "--image=busybox", "--container=d", "--attach=false")
    assert kubectl.get("pod", "one")["spec"]["ephemeralContainers"][0]["name"] == "d"
    kubectl("debug", "node/hollow-0", "--image=busybox", "--attach=false")
    kubectl("debug", "one", "--copy-to=copy", "--image=busybox", "--attach=false")
    assert len(kubectl.get("pod", "copy")["spec"]["containers"]) == 2


def test_its_own_configuration(kubectl: Kubectl) -> None:
    copy = kubectl.folder / "config"
    copy.write_bytes(kubectl.cluster.kubeconfig.read_bytes())
    mine = {"KUBECONFIG": str(copy)}
    assert "kubernetes-admin@navarch-dev" in kubectl("config", "current-context", environment=mine)
    kubectl("config", "set-context", "--current", f"--namespace={kubectl.namespace}", environment=mine)
    assert kubectl.namespace in kubectl("config", "view", "--minify", environment=mine)
    token = kubectl("create", "token", "default").strip()
    kubectl("config", "set-credentials", "robot", f"--token={token}", environment=mine)
    kubectl("config", "set-context", "--current", "--user=robot", environment=mine)
    whoami = kubectl("auth", "whoami", environment=mine)
    assert f"system:serviceaccount:{kubectl.namespace}:default" in whoami


def test_proxy(kubectl: Kubectl) -> None:
    argv = [kubectl.program, "proxy", "--port=0"]
    environment = kubectl.cluster.environment()
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment) as proxy:
        try:
            assert proxy.stdout is not None
            address = proxy.stdout.readline().split()[-1]
            path = f"http://{address}/api/v1/namespaces/{kubectl.namespace}/serviceaccounts"
            with urllib.request.urlopen(path, timeout=20) as answer:
                assert b'"ServiceAccountList"' in answer.read()
        finally:
            proxy.kill()  # how kubectl ends is kubectl's affair
