"""Small plugins that fill in or refuse fields of pods.

Source: k8s.io/kubernetes/plugin/pkg/admission/{defaulttolerationseconds,alwayspullimages,antiaffinity,
extendedresourcetoleration,podtopologylabels}.
"""

from __future__ import annotations

from collections.abc import Iterator

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.plugin import CREATE, UPDATE, BasePlugin, refuse, spec_of, subject
from controlplane.apiserver.reader import Reader
from machinery.api import podresources
from machinery.api.catalogue import BINDINGS, NODES, PODS
from machinery.api.fielderror import invalid, invalid_object
from machinery.api.meta import Object, labels_of, name_of

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
HOSTNAME = "kubernetes.io/hostname"
TOPOLOGY_LABELS = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")
_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")


class DefaultTolerationSeconds(BasePlugin):
    """Pods stay on a node that is not ready or unreachable for a while."""

    name = "DefaultTolerationSeconds"
    verbs = (CREATE, UPDATE)
    resources = (PODS,)

    def __init__(self, not_ready_seconds: int = 300, unreachable_seconds: int = 300) -> None:
        self._seconds = {NOT_READY: not_ready_seconds, UNREACHABLE: unreachable_seconds}

    async def admit(self, operation: Operation) -> None:
        """Add the tolerations that the pod does not bring itself."""
        spec = spec_of(subject(operation))
        tolerations = spec.get("tolerations") or []
        added = [
            {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}
            for key, seconds in self._seconds.items()
            if not any(
                t.get("key") in (key, "", None) and t.get("effect") in ("NoExecute", "", None) for t in tolerations
            )
        ]
        if added:
            spec["tolerations"] = [*tolerations, *added]


class AlwaysPullImages(BasePlugin):
    """Every container pulls its image, so that nobody uses an image he may not pull."""

    name = "AlwaysPullImages"
    verbs = (CREATE, UPDATE)
    resources = (PODS,)

    async def admit(self, operation: Operation) -> None:
        """Set imagePullPolicy, where images may still change."""
        before = set(_images(operation.old)) if operation.old is not None else None
        for container in _containers(subject(operation)):
            if before is None or container.get("image") not in before:
                container["imagePullPolicy"] = "Always"

    async def validate(self, operation: Operation) -> None:
        """Raises Invalid where something has set it back."""
        before = set(_images(operation.old)) if operation.old is not None else None
        pod = subject(operation)
        errors = []
        for kind in _CONTAINERS:
            for index, container in enumerate((pod.get("spec") or {}).get(kind) or ()):
                policy = container.get("imagePullPolicy") or ""
                if policy != "Always" and (before is None or container.get("image") not in before):
                    field = f"spec.{kind}[{index}].imagePullPolicy"
                    errors.append(invalid(field, policy, 'supported values: ["Always"]'))
        if errors:
            raise invalid_object("", "Pod", name_of(pod), errors)


class LimitPodHardAntiAffinityTopology(BasePlugin):
    """Required anti-affinity only between hosts."""

    name = "LimitPodHardAntiAffinityTopology"
    resources = (PODS,)

    async def validate(self, operation: Operation) -> None:
        """Raises Forbidden."""
        affinity = ((subject(operation).get("spec") or {}).get("affinity") or {}).get("podAntiAffinity") or {}
        for term in affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or ():
            if term.get("topologyKey") != HOSTNAME:
                told = (
                    "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey "
                    f"{term.get('topologyKey')} but only key {HOSTNAME} is allowed"
                )
                raise refuse(operation, told)


class ExtendedResourceToleration(BasePlugin):
    """Pods that use a special resource tolerate the taint of its name."""

    name = "ExtendedResourceToleration"
    verbs = (CREATE, UPDATE)
    resources = (PODS,)

    async def admit(self, operation: Operation) -> None:
        """Add the tolerations."""
        pod = subject(operation)
        wanted = sorted(
            {
                name
                for container in _containers(pod, _CONTAINERS[:2])
                for name in (container.get("resources") or {}).get("requests") or ()
                if podresources.is_extended(name)
            }
        )
        spec = spec_of(pod)
        for name in wanted:
            toleration = {"key": name, "operator": "Exists"}
            has = spec.get("tolerations") or []
            if not any(t.get("key") == name and t.get("operator") == "Exists" and not t.get("effect") for t in has):
                spec["tolerations"] = [*has, toleration]


class PodTopologyLabels(BasePlugin):
    """A pod that is bound to a node learns the node's zone and region as labels."""

    name = "PodTopologyLabels"

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def handles(self, operation: Operation) -> bool:
        """Bindings, and pods that are made on a node."""
        if operation.verb != CREATE:
            return False
        if operation.resource == PODS:
            return operation.subresource in ("", "binding")
        return operation.resource == BINDINGS

    async def admit(self, operation: Operation) -> None:
        """Add the labels; what the pod brings itself is overwritten."""
        obj = subject(operation)
        if operation.resource == PODS and not operation.subresource:
            node_name = (obj.get("spec") or {}).get("nodeName")
        else:
            target = obj.get("target") or {}
            node_name = target.get("name") if target.get("kind") in ("Node", "", None) else None
        node = self._reader.get(NODES, "", node_name) if node_name else None
        if node is None:
            return
        found = {key: value for key, value in labels_of(node).items() if key in TOPOLOGY_LABELS}
        if found:
            metadata = obj.setdefault("metadata", {})
            metadata["labels"] = (metadata.get("labels") or {}) | found


def _containers(pod: Object, kinds: tuple[str, ...] = _CONTAINERS) -> Iterator[Object]:
    for kind in kinds:
        yield from (pod.get("spec") or {}).get(kind) or ()


def _images(pod: Object | None) -> Iterator[str]:
    return (str(container.get("image") or "") for container in _containers(pod or {}))
