"""The FlowSchemas and PriorityLevelConfigurations that every cluster has.

Source: k8s.io/apiserver/pkg/apis/flowcontrol/bootstrap/default.go, v1.36.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from machinery.api.meta import Object

AUTOUPDATE = "apf.kubernetes.io/autoupdate-spec"
MANDATORY = frozenset({"exempt", "catch-all"})
"""Objects whose specification is the server's own, whatever users write."""

_API = "flowcontrol.apiserver.k8s.io/v1"

# name → (nominalConcurrencyShares, lendablePercent, queues, handSize); no queues: reject at once
_LEVELS: dict[str, tuple[int, int, int, int]] = {
    "catch-all": (5, 0, 0, 0),
    "system": (30, 33, 64, 6),
    "node-high": (40, 25, 64, 6),
    "leader-election": (10, 0, 16, 4),
    "workload-high": (40, 50, 128, 6),
    "workload-low": (100, 90, 128, 6),
    "global-default": (20, 50, 128, 6),
}
_QUEUE_LENGTH = 50

_ALL_RESOURCES: Object = {
    "verbs": ["*"],
    "apiGroups": ["*"],
    "resources": ["*"],
    "clusterScope": True,
    "namespaces": ["*"],
}
_ALL_PATHS: Object = {"verbs": ["*"], "nonResourceURLs": ["*"]}


def _user(name: str) -> Object:
    return {"kind": "User", "user": {"name": name}}


def _group(name: str) -> Object:
    return {"kind": "Group", "group": {"name": name}}


_KUBE_SYSTEM_ACCOUNTS: Object = {
    "kind": "ServiceAccount",
    "serviceAccount": {"namespace": "kube-system", "name": "*"},
}
_EVERYBODY = [_group("system:unauthenticated"), _group("system:authenticated")]


def _everything(*subjects: Object) -> list[Object]:
    return [{"subjects": list(subjects), "resourceRules": [_ALL_RESOURCES], "nonResourceRules": [_ALL_PATHS]}]


def _leases(*verbs: str) -> Object:
    return {
        "verbs": list(verbs),
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "namespaces": ["*"],
    }


# name → (priority level, precedence, how flows are told apart, rules)
_SCHEMAS: dict[str, tuple[str, int, str, list[Object]]] = {
    "exempt": ("exempt", 1, "", _everything(_group("system:masters"))),
    "probes": (
        "exempt",
        2,
        "",
        [
            {
                "subjects": _EVERYBODY,
                "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}],
            }
        ],
    ),
    "system-leader-election": (
        "leader-election",
        100,
        "ByUser",
        [
            {
                "subjects": [
                    _user("system:kube-controller-manager"),
                    _user("system:kube-scheduler"),
                    _KUBE_SYSTEM_ACCOUNTS,
                ],
                "resourceRules": [_leases("get", "create", "update")],
            }
        ],
    ),
    "system-node-high": (
        "node-high",
        400,
        "ByUser",
        [
            {
                "subjects": [_group("system:nodes")],
                "resourceRules": [
                    _ALL_RESOURCES | {"apiGroups": [""], "resources": ["nodes", "nodes/status"]},
                    _leases("*"),
                ],
            }
        ],
    ),
    "system-nodes": ("system", 500, "ByUser", _everything(_group("system:nodes"))),
    "kube-controller-manager": (
        "workload-high",
        800,
        "ByNamespace",
        _everything(_user("system:kube-controller-manager")),
    ),
    "kube-scheduler": ("workload-high", 800, "ByNamespace", _everything(_user("system:kube-scheduler"))),
    "kube-system-service-accounts": ("workload-high", 900, "ByNamespace", _everything(_KUBE_SYSTEM_ACCOUNTS)),
    "service-accounts": ("workload-low", 9000, "ByUser", _everything(_group("system:serviceaccounts"))),
    "global-default": ("global-default", 9900, "ByUser", _everything(*_EVERYBODY)),
    "catch-all": ("catch-all", 10000, "ByUser", _everything(*_EVERYBODY)),
}


def _object(kind: str, name: str, spec: Object) -> Object:
    metadata = {"name": name, "annotations": {AUTOUPDATE: "true"}}
    return {"apiVersion": _API, "kind": kind, "metadata": metadata, "spec": spec}


def priority_levels() -> Iterator[Object]:
    """All PriorityLevelConfigurations."""
    exempt = {"nominalConcurrencyShares": 0, "lendablePercent": 0}
    yield _object("PriorityLevelConfiguration", "exempt", {"type": "Exempt", "exempt": exempt})
    for name, (shares, lendable, queues, hand) in _LEVELS.items():
        response: dict[str, Any] = {"type": "Reject"}
        if queues:
            queuing = {"queues": queues, "handSize": hand, "queueLengthLimit": _QUEUE_LENGTH}
            response = {"type": "Queue", "queuing": queuing}
        limited = {"nominalConcurrencyShares": shares, "limitResponse": response, "lendablePercent": lendable}
        yield _object("PriorityLevelConfiguration", name, {"type": "Limited", "limited": limited})


def flow_schemas() -> Iterator[Object]:
    """All FlowSchemas."""
    for name, (level, precedence, distinguisher, rules) in _SCHEMAS.items():
        spec: Object = {"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence}
        if distinguisher:
            spec["distinguisherMethod"] = {"type": distinguisher}
        yield _object("FlowSchema", name, spec | {"rules": rules})
