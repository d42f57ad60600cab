"""The Node authoriser: a kubelet may read what the pods on its node need, and write what is about its node.

What it may write is narrowed further by the admission plugin NodeRestriction, which sees the objects.

Source: k8s.io/kubernetes/plugin/pkg/auth/authorizer/node/node_authorizer.go, pkg/auth/nodeidentifier.
"""

from __future__ import annotations

from controlplane.apiserver.authz.contract import Decision
from controlplane.apiserver.authz.nodegraph import NodeGraph
from controlplane.apiserver.authz.rules import compile_rules
from controlplane.apiserver.bootstrap.clusterroles import NODE_RULES
from controlplane.apiserver.reader import Reader
from controlplane.apiserver.request import RequestInfo, User
from machinery.api import fields
from machinery.api.fielderror import show

Answer = tuple[Decision, str]

_ALLOW: Answer = (Decision.ALLOW, "")
_NODE_LEASES = "kube-node-lease"
_WRITES_OF_ITS_OWN = ("get", "create", "update", "patch", "delete")


def _no(reason: str = "") -> Answer:
    return Decision.NO_OPINION, reason


def node_name(user: User) -> str | None:
    """The node a user is the kubelet of: its name, "" if it can't be told, None for other users."""
    if "system:nodes" not in user.groups or not user.name.startswith("system:node:"):
        return None
    return user.name.removeprefix("system:node:")


class NodeAuthorizer:
    """Allows kubelets (users `system:node:NAME` in group `system:nodes`) what they need. Never denies."""

    def __init__(self, reader: Reader) -> None:
        self._graph = NodeGraph(reader)
        self._rules = compile_rules(NODE_RULES)

    def is_node(self, user: User) -> bool:
        """Whether the user is a kubelet."""
        return node_name(user) is not None

    async def authorize(self, user: User, request: RequestInfo) -> tuple[Decision, str]:
        """ALLOW, or NO_OPINION with the reason."""
        node = node_name(user)
        if node is None:
            return _no()
        if not node:
            return _no(f"unknown node for user {show(user.name)}")
        if request.is_resource:
            match request.group, request.resource:
                case "", "secrets" | "configmaps":
                    return self._read_namespaced(node, request)
                case "", "persistentvolumeclaims":
                    return self._claim(node, request)
                case "", "persistentvolumes":
                    return self._get(node, request)
                case "resource.k8s.io", "resourceclaims":
                    return self._get(node, request)
                case "storage.k8s.io", "volumeattachments":
                    return self._get(node, request)
                case "", "serviceaccounts":
                    return self._service_account(node, request)
                case "coordination.k8s.io", "leases":
                    return _lease(node, request)
                case "storage.k8s.io", "csinodes":
                    return _csi_node(node, request)
                case "resource.k8s.io", "resourceslices":
                    return self._resource_slice(node, request)
                case "", "nodes":
                    return _node(node, request)
                case "", "pods":
                    return self._pod(node, request)
        return _ALLOW if any(rule.allows(request) for rule in self._rules) else _no()

    def _related(self, node: str, request: RequestInfo) -> Answer:
        if not request.name:
            return _no("No Object name found")
        if self._graph.reaches(node, request.resource, request.namespace, request.name):
            return _ALLOW
        return _no(f"no relationship found between node '{node}' and this object")

    def _get(self, node: str, request: RequestInfo) -> Answer:
        if request.verb != "get":
            return _no("can only get individual resources of this type")
        if request.subresource:
            return _no("cannot get subresource")
        return self._related(node, request)

    def _read_namespaced(self, node: str, request: RequestInfo) -> Answer:
        if request.verb not in ("get", "list", "watch"):
            return _no("can only read resources of this type")
        if request.subresource:
            return _no("cannot read subresource")
        if not request.namespace:
            return _no("can only read namespaced object of this type")
        return self._related(node, request)

    def _claim(self, node: str, request: RequestInfo) -> Answer:
        if request.subresource != "status":
            return self._get(node, request)
        if request.verb not in ("update", "patch"):
            return _no("can only get/update/patch this type")
        return self._related(node, request)

    def _service_account(self, node: str, request: RequestInfo) -> Answer:
        if request.verb == "get" and not request.subresource:
            return self._related(node, request)  # kubelets get image credentials for service accounts
        if request.verb != "create" or not request.name:
            return _no("can only create tokens for individual service accounts")
        if request.subresource != "token":
            return _no("can only create token subresource of serviceaccount")
        return self._related(node, request)

    def _resource_slice(self, node: str, request: RequestInfo) -> Answer:
        if request.subresource:
            return _no("cannot authorize ResourceSlice subresources")
        match request.verb:
            case "create":
                return _ALLOW  # NodeRestriction looks at spec.nodeName
            case "get" | "update" | "patch" | "delete":
                return self._related(node, request)
            case "watch" | "list" | "deletecollection":
                if selects(request.field_selector, "spec.nodeName", node):
                    return _ALLOW
                return _no("can only list/watch/deletecollection resourceslices with nodeName field selector")
        return _no(
            "only the following verbs are allowed for a ResourceSlice: "
            "get, watch, list, create, update, patch, delete, deletecollection"
        )

    def _pod(self, node: str, request: RequestInfo) -> Answer:
        match request.subresource, request.verb:
            case "", "get":
                return self._get(node, request)
            case "", "list" | "watch":
                if selects(request.field_selector, "spec.nodeName", node):
                    return _ALLOW
                if request.name:
                    return self._related(node, request)
                return _no("can only list/watch pods with spec.nodeName field selector")
            # What follows is for mirror pods and pods of the node's own, which NodeRestriction sees to.
            case ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create"):
                return _ALLOW
        return _no()


def selects(field_selector: str, field: str, value: str) -> bool:
    """Whether a field selector narrows to `field` being `value`."""
    try:
        return (field, "=", value) in fields.parse(field_selector).requirements
    except ValueError:
        return False


def _lease(node: str, request: RequestInfo) -> Answer:
    if request.verb not in _WRITES_OF_ITS_OWN:
        return _no("can only get, create, update, patch, or delete a node lease")
    if request.namespace != _NODE_LEASES:
        return _no(f"can only access leases in the {show(_NODE_LEASES)} system namespace")
    # On create the name is not known here; NodeRestriction looks at it.
    if request.verb != "create" and request.name != node:
        return _no("can only access node lease with the same name as the requesting node")
    return _ALLOW


def _csi_node(node: str, request: RequestInfo) -> Answer:
    if request.verb not in _WRITES_OF_ITS_OWN:
        return _no("can only get, create, update, patch, or delete a CSINode")
    if request.subresource:
        return _no("cannot authorize CSINode subresources")
    if request.verb != "create" and request.name != node:
        return _no("can only access CSINode with the same name as the requesting node")
    return _ALLOW


def _node(node: str, request: RequestInfo) -> Answer:
    match request.subresource, request.verb:
        case ("", "create" | "update" | "patch") | ("status", "update" | "patch"):
            return _ALLOW  # NodeRestriction sees to it that it is its own
        case "", "get" | "list" | "watch":
            # By name, so that a kubelet can look for its Node before there is one.
            if request.name == node:
                return _ALLOW
            if not request.name:
                return _no(f"node '{node}' cannot read all nodes, only its own Node object")
            return _no(f"node '{node}' cannot read '{request.name}', only its own Node object")
    return _no()
