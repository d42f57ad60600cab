"""The defaults that the API server would have set on a pod: for static pods, which don't pass through it.

Source: k8s.io/kubernetes pkg/apis/core/v1/defaults.go, as far as a kubelet looks at the fields.
"""

from __future__ import annotations

from machinery.api.meta import Object

_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_FILE_VOLUMES = ("configMap", "secret", "downwardAPI", "projected")
_DEFAULT_MODE = 0o644


def with_defaults(pod: Object) -> Object:
    """The pod with defaults filled in; the given one is not changed."""
    of_pod = {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "securityContext": {},
        "schedulerName": "default-scheduler",
        "enableServiceLinks": True,
        **(pod.get("spec") or {}),
    }
    host_network = bool(of_pod.get("hostNetwork"))
    for section in ("initContainers", "containers"):
        if of_pod.get(section):
            of_pod[section] = [_container(c, host_network=host_network) for c in of_pod[section]]
    if of_pod.get("volumes"):
        of_pod["volumes"] = [_volume(volume) for volume in of_pod["volumes"]]
    return {**pod, "spec": of_pod}


def _container(container: Object, *, host_network: bool) -> Object:
    image = container.get("image") or ""
    latest = "@" not in image and (":" not in image.rpartition("/")[2] or image.endswith(":latest"))
    made: Object = {
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "Always" if latest else "IfNotPresent",
        "resources": {},
        **container,
    }
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if made.get(name):
            made[name] = _probe(made[name])
    limits = (made["resources"] or {}).get("limits")
    if limits:  # what is limited and not requested is requested to the limit
        made["resources"] = {**made["resources"], "requests": {**limits, **(made["resources"].get("requests") or {})}}
    ports = []
    for port in made.get("ports") or ():
        with_protocol = {"protocol": "TCP", **port}
        if host_network and not with_protocol.get("hostPort"):
            with_protocol["hostPort"] = with_protocol["containerPort"]
        ports.append(with_protocol)
    if ports:
        made["ports"] = ports
    return made


def _probe(probe: Object) -> Object:
    made = {**_PROBE, **probe}
    if made.get("httpGet"):
        made["httpGet"] = {"path": "/", "scheme": "HTTP", **made["httpGet"]}
    return made


def _volume(volume: Object) -> Object:
    made = dict(volume)
    if "hostPath" in made:
        made["hostPath"] = {"type": "", **made["hostPath"]}
    for kind in _FILE_VOLUMES:
        if kind in made:
            made[kind] = {"defaultMode": _DEFAULT_MODE, **(made[kind] or {})}
    if len(made) == 1:
        made["emptyDir"] = {}
    return made
