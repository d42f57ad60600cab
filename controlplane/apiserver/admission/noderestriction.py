"""NodeRestriction: a kubelet writes only what is about its node and the pods on it.

Source: k8s.io/kubernetes/plugin/pkg/admission/noderestriction, k8s.io/kubelet/pkg/apis/well_known_labels.go.
"""

from __future__ import annotations

from collections.abc import Iterable

from controlplane.apiserver.admission.certificates import (
    KUBELET_CLIENT_SIGNER,
    KUBELET_SERVING_SIGNER,
    common_name,
    parse_request,
)
from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.plugin import CREATE, DELETE, UPDATE, BasePlugin, refuse, subject
from controlplane.apiserver.authz.node import node_name
from controlplane.apiserver.authz.nodegraph import MIRROR_POD
from controlplane.apiserver.authz.podrefs import pod_references
from controlplane.apiserver.authz.rbac import aggregate
from controlplane.apiserver.handlers.contract import Authorize
from controlplane.apiserver.reader import Reader
from controlplane.apiserver.request import RequestInfo
from machinery.api.catalogue import (
    CERTIFICATESIGNINGREQUESTS,
    CSIDRIVERS,
    CSINODES,
    LEASES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    RESOURCESLICES,
    SERVICEACCOUNTS,
)
from machinery.api.fielderror import show
from machinery.api.meta import Object, annotations_of, labels_of, name_of, uid_of
from machinery.api.resource import ResourceType
from machinery.errors import NotFound

_NODE_LEASES = "kube-node-lease"
_RESTRICTED = "node-restriction.kubernetes.io"
_KUBELET_LABELS = frozenset(
    {
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "node.kubernetes.io/instance-type",
        "beta.kubernetes.io/instance-type",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
    }
)
_KUBELET_NAMESPACES = ("kubelet.kubernetes.io", "node.kubernetes.io")
_AUDIENCE_VERB = "request-serviceaccounts-token-audience"


class NodeRestriction(BasePlugin):
    """Narrows what the Node authoriser lets kubelets write."""

    name = "NodeRestriction"

    def __init__(self, reader: Reader, authorize: Authorize) -> None:
        self._reader = reader
        self._authorize = authorize

    def handles(self, operation: Operation) -> bool:
        """Writes by kubelets."""
        return operation.verb in (CREATE, UPDATE, DELETE) and node_name(operation.user) is not None

    async def admit(self, operation: Operation) -> None:
        """Raises Forbidden, NotFound."""
        node = node_name(operation.user)
        if not node:
            raise refuse(operation, f"could not determine node from user {show(operation.user.name)}")
        match operation.resource:
            case r if r == PODS:
                await self._pod(operation, node)
            case r if r == NODES:
                _own_node(operation, node)
            case r if r == PERSISTENTVOLUMECLAIMS:
                _claim(operation, node)
            case r if r == SERVICEACCOUNTS:
                if operation.verb == CREATE and operation.subresource == "token":
                    await self._token(operation, node)
            case r if r == LEASES:
                _lease(operation, node)
            case r if r == CSINODES:
                if _name(operation) != node:
                    raise refuse(operation, "can only access CSINode with the same name as the requesting node")
            case r if r == RESOURCESLICES:
                _slice(operation, node)
            case r if r == CERTIFICATESIGNINGREQUESTS:
                _signing_request(operation, node)

    async def _pod(self, operation: Operation, node: str) -> None:
        match operation.subresource, operation.verb:
            case "", "CREATE":
                await self._mirror_pod(operation, node)
            case "", "DELETE":
                if await self._node_of_pod(operation) != node:
                    told = f"node {show(node)} can only delete pods with spec.nodeName set to itself"
                    raise refuse(operation, told)
            case "", verb:
                told = f"unexpected operation {show(verb)}, node {show(node)} can only create and delete mirror pods"
                raise refuse(operation, told)
            case "status", "UPDATE":
                _pod_status(operation, node)
            case "eviction", "CREATE":
                if await self._node_of_pod(operation) != node:
                    raise refuse(operation, f"node {node} can only evict pods with spec.nodeName set to itself")
            case "status" | "eviction", verb:
                raise refuse(operation, f"unexpected operation {show(verb)}")
            case subresource, _:
                told = f"unexpected pod subresource {show(subresource)}, only 'status' and 'eviction' are allowed"
                raise refuse(operation, told)

    async def _node_of_pod(self, operation: Operation) -> str:
        pod = await self._get_pod(operation, operation.name or name_of(operation.object or {}))
        return str((pod.get("spec") or {}).get("nodeName") or "")

    async def _get_pod(self, operation: Operation, name: str) -> Object:
        pod = self._reader.get(PODS, operation.namespace, name)
        if pod is None:
            pod = await self._reader.get_latest(PODS, operation.namespace, name)
        if pod is None:
            raise NotFound(f"pod {show(name)} not found", details={"name": name, "kind": "pod"})
        return pod

    async def _mirror_pod(self, operation: Operation, node: str) -> None:
        pod, called = subject(operation), show(node)
        spec = pod.get("spec") or {}
        if MIRROR_POD not in annotations_of(pod):
            told = f"pod does not have {show(MIRROR_POD)} annotation, node {called} can only create mirror pods"
            raise refuse(operation, told)
        if spec.get("nodeName") != node:
            raise refuse(operation, f"node {called} can only create pods with spec.nodeName set to itself")
        owners = (pod.get("metadata") or {}).get("ownerReferences") or []
        if len(owners) > 1:
            told = f"node {called} can only create pods with a single owner reference set to itself"
            raise refuse(operation, told)
        owner = owners[0] if owners else {}
        if (owner.get("apiVersion"), owner.get("kind"), owner.get("name")) != ("v1", "Node", node):
            raise refuse(operation, f"node {called} can only create pods with an owner reference set to itself")
        if not owner.get("controller"):
            told = f"node {called} can only create pods with a controller owner reference set to itself"
            raise refuse(operation, told)
        if owner.get("blockOwnerDeletion"):
            raise refuse(operation, f"node {called} must not set blockOwnerDeletion on an owner reference")
        own = self._reader.get(NODES, "", node) or await self._reader.get_latest(NODES, "", node)
        if own is None:
            raise NotFound(f"node {called} not found", details={"name": node, "kind": "node"})
        if owner.get("uid") != uid_of(own):
            told = f"node {node} UID mismatch: expected {owner.get('uid')} got {uid_of(own)}"
            raise refuse(operation, told)
        _no_references(operation, pod, called)

    async def _token(self, operation: Operation, node: str) -> None:
        spec = subject(operation).get("spec") or {}
        bound = spec.get("boundObjectRef") or {}
        if bound.get("apiVersion") != "v1" or bound.get("kind") != "Pod" or not bound.get("name"):
            raise refuse(operation, "node requested token not bound to a pod")
        if not bound.get("uid"):
            raise refuse(operation, "node requested token with a pod binding without a uid")
        pod = await self._get_pod(operation, bound["name"])
        if bound["uid"] != uid_of(pod):
            told = f"the UID in the bound object reference ({bound['uid']}) does not match the UID in record."
            raise refuse(operation, f"{told} The object might have been deleted and then recreated")
        if (pod.get("spec") or {}).get("nodeName") != node:
            raise refuse(operation, "node requested token bound to a pod scheduled on a different node")
        await self._audiences(operation, pod, spec.get("audiences") or ())

    async def _audiences(self, operation: Operation, pod: Object, audiences: Iterable[str]) -> None:
        audiences = list(audiences)
        if len(audiences) > 1:
            raise refuse(operation, "node may only request 0 or 1 audiences")
        wanted = audiences[0] if audiences else ""
        found, lost = self._pod_audiences(operation, pod)
        if wanted in found:
            return
        if lost:
            raise refuse(operation, f"error validating audience {show(wanted)}: {aggregate(lost)}")
        asked = RequestInfo(
            verb=_AUDIENCE_VERB,
            path="",
            is_resource=True,
            version="v1",
            resource=wanted,
            namespace=operation.namespace,
            name=operation.name,
        )
        if not (await self._authorize(operation.user, asked))[0]:
            told = f"audience {show(wanted)} not found in pod spec volume, {operation.user.name}"
            raise refuse(operation, f"{told} is not authorized to request tokens for this audience")

    def _pod_audiences(self, operation: Operation, pod: Object) -> tuple[set[str], list[str]]:
        """The audiences of a pod's volumes, and what could not be found on the way to them."""
        found: set[str] = set()
        lost: list[str] = []
        for volume in (pod.get("spec") or {}).get("volumes") or ():
            for source in (volume.get("projected") or {}).get("sources") or ():
                if source.get("serviceAccountToken") is not None:
                    found.add(source["serviceAccountToken"].get("audience") or "")
            try:
                driver = self._driver(operation, pod, volume)
                csi = self._known(CSIDRIVERS, "", driver) if driver else {}
            except NotFound as exc:
                lost.append(exc.message)
                continue
            for request in (csi.get("spec") or {}).get("tokenRequests") or ():
                found.add(request.get("audience") or "")
        return found, lost

    def _driver(self, operation: Operation, pod: Object, volume: Object) -> str:
        """The CSI driver of a volume, "" if it has none. Raises NotFound."""
        claimed = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if (volume.get("ephemeral") or {}).get("volumeClaimTemplate") is not None:
            claimed = f"{name_of(pod)}-{volume.get('name')}"
        if not claimed:
            return str((volume.get("csi") or {}).get("driver") or "")
        claim = self._known(PERSISTENTVOLUMECLAIMS, operation.namespace, claimed)
        bound = self._known(PERSISTENTVOLUMES, "", (claim.get("spec") or {}).get("volumeName") or "")
        return str(((bound.get("spec") or {}).get("csi") or {}).get("driver") or "")

    def _known(self, resource: ResourceType, namespace: str, name: str) -> Object:
        """An object from memory. Raises NotFound, which names it by its kind as listers do."""
        obj = self._reader.get(resource, namespace, name)
        if obj is None:
            group = f".{resource.group}" if resource.group else ""
            raise NotFound(f"{resource.kind.lower()}{group} {show(name)} not found")
        return obj


def _no_references(operation: Operation, pod: Object, node: str) -> None:
    """A pod made by a kubelet refers to no other object: it could use it to read that object."""
    spec = pod.get("spec") or {}
    if spec.get("serviceAccountName"):
        raise refuse(operation, f"node {node} can not create pods that reference a service account")
    references = {resource for resource, _, _ in pod_references(pod)}
    for resource in ("secrets", "configmaps"):
        if resource in references:
            raise refuse(operation, f"node {node} can not create pods that reference {resource}")
    for volume in spec.get("volumes") or ():
        for source in (volume.get("projected") or {}).get("sources") or ():
            if source.get("clusterTrustBundle") is not None:
                raise refuse(operation, f"node {node} can not create pods that reference clustertrustbundles")
    for resource in ("persistentvolumeclaims", "resourceclaims"):
        if resource in references:
            raise refuse(operation, f"node {node} can not create pods that reference {resource}")


def _pod_status(operation: Operation, node: str) -> None:
    old, new = operation.old or {}, subject(operation)
    if (old.get("spec") or {}).get("nodeName") != node:
        told = f"node {show(node)} can only update pod status for pods with spec.nodeName set to itself"  # noqa: S608
        raise refuse(operation, told)
    if labels_of(old) != labels_of(new):
        raise refuse(operation, f"node {show(node)} cannot update labels through pod status")
    had, has = ((obj.get("status") or {}).get("resourceClaimStatuses") or [] for obj in (old, new))
    if had != has:
        raise refuse(operation, f"node {show(node)} cannot update resource claim statues")
    # The claim named there is one that the pod's node may read.
    before, after = ((obj.get("status") or {}).get("extendedResourceClaimStatus") for obj in (old, new))
    if before != after:
        raise refuse(operation, f"node {show(node)} cannot update extended resource claim status")


def _own_node(operation: Operation, node: str) -> None:
    called = show(node)
    if _name(operation) != node:
        raise refuse(operation, f"node {called} is not allowed to modify node {show(_name(operation))}")
    if operation.verb == DELETE:
        return
    new, old = subject(operation), operation.old
    config = (new.get("spec") or {}).get("configSource")
    if old is None:
        if config is not None:
            raise refuse(operation, f"node {called} is not allowed to create pods with a non-nil configSource")
        if wrong := forbidden_labels({}, labels_of(new)):
            told = f"node {called} is not allowed to set the following labels: {', '.join(wrong)}"
            raise refuse(operation, told)
        return
    before = old.get("spec") or {}
    if config is not None and config != before.get("configSource"):
        raise refuse(operation, f"node {called} is not allowed to update configSource to a new non-nil configSource")
    if ((new.get("spec") or {}).get("taints") or []) != (before.get("taints") or []):
        raise refuse(operation, f"node {called} is not allowed to modify taints")
    if wrong := forbidden_labels(labels_of(old), labels_of(new)):
        raise refuse(operation, f"is not allowed to modify labels: {', '.join(wrong)}")


def forbidden_labels(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """The labels that differ and that a kubelet must not touch."""
    changed = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    return sorted(key for key in changed if _restricted(key))


def _restricted(key: str) -> bool:
    namespace = key.partition("/")[0] if "/" in key else ""
    if _within(namespace, _RESTRICTED):
        return True
    ours = _within(namespace, "kubernetes.io") or _within(namespace, "k8s.io")
    known = key in _KUBELET_LABELS or any(_within(namespace, n) for n in _KUBELET_NAMESPACES)
    return ours and not known


def _within(namespace: str, domain: str) -> bool:
    return namespace == domain or namespace.endswith("." + domain)


def _claim(operation: Operation, node: str) -> None:
    if operation.subresource != "status":
        raise refuse(operation, "may only update PVC status")
    if operation.verb != UPDATE:
        raise refuse(operation, f"unexpected operation {show(operation.verb)}")
    if _claim_without_status(operation.old or {}) != _claim_without_status(subject(operation)):
        told = "is not allowed to update fields other than status.quantity and status.conditions"
        raise refuse(operation, f"node {show(node)} {told}")


def _claim_without_status(claim: Object) -> Object:
    own = ("capacity", "conditions", "allocatedResourceStatuses", "allocatedResources")
    status = {key: value for key, value in (claim.get("status") or {}).items() if key not in own}
    metadata = claim.get("metadata") or {}
    kept = {key: value for key, value in metadata.items() if key not in ("resourceVersion", "managedFields")}
    return claim | {"metadata": kept, "status": status}


def _lease(operation: Operation, node: str) -> None:
    if operation.namespace != _NODE_LEASES:
        raise refuse(operation, f"can only access leases in the {show(_NODE_LEASES)} system namespace")
    if _name(operation) != node:
        raise refuse(operation, "can only access node lease with the same name as the requesting node")


def _slice(operation: Operation, node: str) -> None:
    obj = operation.object if operation.verb == CREATE else operation.old
    if operation.verb != UPDATE and ((obj or {}).get("spec") or {}).get("nodeName") != node:
        doing = operation.verb.lower()
        raise refuse(operation, f"can only {doing} ResourceSlice with the same NodeName as the requesting node")


def _signing_request(operation: Operation, node: str) -> None:
    if operation.verb != CREATE:
        return
    request = subject(operation)
    signer = (request.get("spec") or {}).get("signerName")
    if signer not in (KUBELET_SERVING_SIGNER, KUBELET_CLIENT_SIGNER):
        return
    try:
        parsed = parse_request(request)
    except ValueError as exc:
        raise refuse(operation, f"unable to parse csr: {exc}") from exc
    if common_name(parsed) != f"system:node:{node}":
        raise refuse(operation, f"can only create a node CSR with CN=system:node:{node}")


def _name(operation: Operation) -> str:
    return operation.name or name_of(operation.object or {})
