"""Which node may read which object: kept from pods, volumes, attachments and slices as they change.

    node ← pod ← secret | configmap | persistentvolumeclaim | serviceaccount | resourceclaim
                                 persistentvolumeclaim ← persistentvolume ← secret
    node ← volumeattachment | resourceslice

Source: k8s.io/kubernetes/plugin/pkg/auth/authorizer/node/graph.go.
"""

from __future__ import annotations

from collections import Counter

from controlplane.apiserver.authz.podrefs import Reference, pod_references, volume_secrets
from controlplane.apiserver.reader import Reader
from machinery.api.catalogue import PERSISTENTVOLUMES, PODS, RESOURCESLICES, VOLUMEATTACHMENTS
from machinery.api.meta import Object, annotations_of, name_of, namespace_of, uid_of

MIRROR_POD = "kubernetes.io/config.mirror"


class NodeGraph:
    """Answers `reaches`; everything else is bookkeeping."""

    def __init__(self, reader: Reader) -> None:
        self._nodes: dict[Reference, Counter[str]] = {}  # object → nodes, each as often as something says so
        self._claims: dict[str, Reference] = {}  # persistent volume → its claim
        self._volumes: dict[Reference, set[str]] = {}  # secret → the persistent volumes that need it
        reader.on_change(PODS, self._pod_changed, holding='"nodeName":')
        reader.on_change(PERSISTENTVOLUMES, self._volume_changed)
        reader.on_change(VOLUMEATTACHMENTS, self._attachment_changed)
        reader.on_change(RESOURCESLICES, self._slice_changed)

    def reaches(self, node: str, resource: str, namespace: str, name: str) -> bool:
        """Whether something on the node needs the object."""
        if resource == "persistentvolumes":
            claim = self._claims.get(name)
            return claim is not None and self._needs(node, claim)
        wanted = (resource, namespace, name)
        if self._needs(node, wanted):
            return True
        return any(self.reaches(node, "persistentvolumes", "", volume) for volume in self._volumes.get(wanted, ()))

    def _needs(self, node: str, wanted: Reference) -> bool:
        return wanted in self._nodes and node in self._nodes[wanted]

    def _count(self, wanted: Reference, node: str, by: int) -> None:
        nodes = self._nodes.setdefault(wanted, Counter())
        nodes[node] += by
        if nodes[node] <= 0:
            del nodes[node]
        if not nodes:
            del self._nodes[wanted]

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None and _same_needs(old, new):
            return  # by far the most common: a status
        for pod, by in ((old, -1), (new, 1)):
            node = ((pod or {}).get("spec") or {}).get("nodeName")
            if pod is None or not node:
                continue
            self._count(("pods", namespace_of(pod), name_of(pod)), node, by)
            # A node must not gain access to objects by creating a mirror pod that refers to them.
            if MIRROR_POD not in annotations_of(pod):
                for reference in pod_references(pod):
                    self._count(reference, node, by)

    def _volume_changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None:
            self._claims.pop(name_of(old), None)
            for secret in volume_secrets(old):
                volumes = self._volumes.get(secret, set())
                volumes.discard(name_of(old))
                if not volumes:
                    self._volumes.pop(secret, None)
        claim = ((new or {}).get("spec") or {}).get("claimRef")
        if new is not None and claim:
            claimed = ("persistentvolumeclaims", claim.get("namespace") or "", claim.get("name") or "")
            self._claims[name_of(new)] = claimed
            for secret in volume_secrets(new):
                self._volumes.setdefault(secret, set()).add(name_of(new))

    def _attachment_changed(self, old: Object | None, new: Object | None) -> None:
        self._named_node("volumeattachments", old, new)

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        self._named_node("resourceslices", old, new)

    def _named_node(self, resource: str, old: Object | None, new: Object | None) -> None:
        for obj, by in ((old, -1), (new, 1)):
            node = ((obj or {}).get("spec") or {}).get("nodeName")
            if obj is not None and node:
                self._count((resource, "", name_of(obj)), node, by)


def _same_needs(old: Object, new: Object) -> bool:
    """Whether two versions of a pod refer to the same objects: only these fields of a bound pod can change that."""
    before, after = old.get("spec") or {}, new.get("spec") or {}
    had, has = old.get("status") or {}, new.get("status") or {}
    return (
        uid_of(old) == uid_of(new)
        and before.get("nodeName") == after.get("nodeName")
        and before.get("ephemeralContainers") == after.get("ephemeralContainers")
        and had.get("resourceClaimStatuses") == has.get("resourceClaimStatuses")
        and had.get("extendedResourceClaimStatus") == has.get("extendedResourceClaimStatus")
        and (MIRROR_POD in annotations_of(old)) == (MIRROR_POD in annotations_of(new))
    )
