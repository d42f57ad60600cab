"""Whether this node takes a pod: the scheduler's word is not enough, for what it knew may be old.

Source: kubelet's lifecycle/predicate.go; sysctl, node shutdown and eviction admission.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agent.kubelet.pods import spec
from agent.kubelet.pods.status import Verdict
from machinery.api import labels, meta, podresources
from machinery.api.meta import Object
from machinery.api.quantity import Quantity

_SAFE_SYSCTLS = frozenset(
    (
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
    )
)
# Which namespace isolates a sysctl; without it the pod would change the host.
_NAMESPACED = {
    "kernel.msg": "hostIPC",
    "kernel.sem": "hostIPC",
    "kernel.shm": "hostIPC",
    "fs.mqueue.": "hostIPC",
    "net.": "hostNetwork",
}


def judge(
    pod: Object,
    node: Object,
    others: Iterable[Object],
    allocatable: Mapping[str, Quantity],
    allowed_sysctls: Iterable[str],
) -> Verdict | None:
    """Why the pod is refused; None if it is taken. `others` are the pods that the node has already."""
    checks = (_sysctls(pod, tuple(allowed_sysctls)), _os(pod, node), _affinity(pod, node), _taints(pod, node))
    wrong = next((verdict for verdict in checks if verdict is not None), None)
    others = list(others)
    return wrong or _ports(pod, others) or fit(pod, others, allocatable)


def fit(pod: Object, others: list[Object], allocatable: Mapping[str, Quantity]) -> Verdict | None:
    """Why there is no room for a pod beside the others; None if there is."""
    capacity = allocatable.get("pods")
    if capacity is not None and len(others) + 1 > capacity.value():
        return _out_of("pods", 1, len(others), capacity.value())
    wanted = podresources.of_pod(pod)
    for name, amount in sorted(wanted.items()):
        known = allocatable.get(name)
        if not amount or known is None:
            continue  # as upstream: what the node knows nothing of is somebody else's to count
        if not known and podresources.may_be_devices(name):
            continue  # it is in the pod's special claim
        used = [asked for other in others if (asked := podresources.of_pod(other).get(name)) is not None]
        total = sum(asked.nanos for asked in used)
        if total + amount.nanos > known.nanos:
            if name == "cpu":
                used_millis = sum(asked.milli_value() for asked in used)
                return _out_of(name, amount.milli_value(), used_millis, known.milli_value())
            return _out_of(name, amount.value(), sum(asked.value() for asked in used), known.value())
    return None


def _out_of(name: str, requested: int, used: int, capacity: int) -> Verdict:
    told = f"Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
    return Verdict(f"OutOf{name}", told)


def host_ports(pod: Object) -> set[tuple[str, str, int]]:
    """(address, protocol, port) of every port a pod takes on the host."""
    found = set()
    for container in [*spec.containers(pod), *(c for c in spec.init_containers(pod) if spec.is_sidecar(c))]:
        for port in container.get("ports") or ():
            if port.get("hostPort"):
                found.add((port.get("hostIP") or "0.0.0.0", port.get("protocol") or "TCP", int(port["hostPort"])))
    return found


def _ports(pod: Object, others: list[Object]) -> Verdict | None:
    wanted = host_ports(pod)
    if not wanted:
        return None
    for other in others:
        for address, protocol, port in host_ports(other):
            for own_address, own_protocol, own_port in wanted:
                clash = "0.0.0.0" in (address, own_address) or address == own_address
                if clash and (protocol, port) == (own_protocol, own_port):
                    return Verdict(
                        "NodePorts",
                        "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
                    )
    return None


def _os(pod: Object, node: Object) -> Verdict | None:
    wanted = (pod["spec"].get("os") or {}).get("name")
    selected = (pod["spec"].get("nodeSelector") or {}).get("kubernetes.io/os")
    if (wanted and wanted != "linux") or (selected and selected != "linux"):
        kind = "PodOSNotSupported" if wanted and wanted != "linux" else "PodOSSelectorNodeLabelDoesNotMatch"
        return Verdict(kind, "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label")
    return None


def _affinity(pod: Object, node: Object) -> Verdict | None:
    if not node:
        return None  # not registered yet: a static pod of a node without an API server
    own = meta.labels_of(node)
    selector = pod["spec"].get("nodeSelector") or {}
    matches = all(own.get(name) == value for name, value in selector.items())
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if matches and required is not None:
        terms = required.get("nodeSelectorTerms") or ()
        matches = any(_term_matches(term, node) for term in terms)
    if matches:
        return None
    return Verdict("NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector")


def _term_matches(term: Object, node: Object) -> bool:
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    own_fields = {"metadata.name": meta.name_of(node)}
    return all(_expression_matches(e, meta.labels_of(node)) for e in expressions) and all(
        _expression_matches(e, own_fields) for e in fields
    )


def _expression_matches(expression: Object, values: Mapping[str, str]) -> bool:
    key, operator, wanted = expression["key"], expression["operator"], expression.get("values") or []
    if operator in ("Gt", "Lt"):
        try:
            own, limit = int(values.get(key, "")), int(wanted[0])
        except (ValueError, IndexError):
            return False
        return own > limit if operator == "Gt" else own < limit
    return labels.from_selector({"matchExpressions": [{"key": key, "operator": operator, "values": wanted}]}).matches(
        values
    )


def _taints(pod: Object, node: Object) -> Verdict | None:
    """Static pods are bound by nobody, so NoExecute taints are looked at here for those that don't tolerate them."""
    if spec.is_static(pod):
        return None
    tolerations = pod["spec"].get("tolerations") or ()
    for taint in node.get("spec", {}).get("taints") or ():
        if taint.get("effect") == "NoExecute" and not any(tolerates(t, taint) for t in tolerations):
            return Verdict(
                "TaintToleration",
                "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate",
            )
    return None


def tolerates(toleration: Object, taint: Object) -> bool:
    """Whether a toleration covers a taint."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    if (toleration.get("operator") or "Equal") == "Exists":
        return True
    return (toleration.get("value") or "") == (taint.get("value") or "")


def _sysctls(pod: Object, allowed: tuple[str, ...]) -> Verdict | None:
    for sysctl in (pod["spec"].get("securityContext") or {}).get("sysctls") or ():
        name = sysctl["name"].replace("/", ".")
        if name not in _SAFE_SYSCTLS and not any(_sysctl_matches(name, pattern) for pattern in allowed):
            return Verdict("SysctlForbidden", f'forbidden sysctl: "{sysctl["name"]}" not allowlisted')
        for prefix, field in _NAMESPACED.items():
            if name.startswith(prefix) and pod["spec"].get(field):
                shown = "ipc" if field == "hostIPC" else "net"
                told = f'forbidden sysctl: "{sysctl["name"]}" not allowed with host {shown} enabled'
                return Verdict("SysctlForbidden", told)
    return None


def _sysctl_matches(name: str, pattern: str) -> bool:
    pattern = pattern.replace("/", ".")
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
