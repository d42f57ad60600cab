"""Which other objects a Pod or a PersistentVolume refers to, so that its kubelet must be able to read them.

Source: k8s.io/kubernetes/pkg/api/v1/pod (VisitPodSecretNames, VisitPodConfigmapNames), pkg/api/v1/persistentvolume.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from machinery.api.meta import Object, name_of, namespace_of
from machinery.api.resourceclaims import special_status

Reference = tuple[str, str, str]
"""(resource, namespace, name)."""

_SECRET_REF_SOURCES = ("cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos")


def pod_references(pod: Object) -> Iterator[Reference]:
    """Everything a pod refers to; the same object may come several times."""
    namespace = namespace_of(pod)
    spec = pod.get("spec") or {}
    for resource, name in _spec_references(spec, name_of(pod)):
        if name:
            yield resource, namespace, name
    status = pod.get("status") or {}
    made = {s.get("name"): s.get("resourceClaimName") for s in status.get("resourceClaimStatuses") or ()}
    for claim in spec.get("resourceClaims") or ():
        if name := claim.get("resourceClaimName") or made.get(claim.get("name")):
            yield "resourceclaims", namespace, name
    if name := special_status(pod).get("resourceClaimName"):
        yield "resourceclaims", namespace, name


def _spec_references(spec: Object, pod_name: str) -> Iterator[tuple[str, Any]]:
    yield "serviceaccounts", spec.get("serviceAccountName")
    for secret in spec.get("imagePullSecrets") or ():
        yield "secrets", secret.get("name")
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind) or ():
            yield from _container_references(container)
    for volume in spec.get("volumes") or ():
        yield from _volume_references(volume, pod_name)


def _container_references(container: Object) -> Iterator[tuple[str, Any]]:
    for source in container.get("envFrom") or ():
        yield "secrets", (source.get("secretRef") or {}).get("name")
        yield "configmaps", (source.get("configMapRef") or {}).get("name")
    for variable in container.get("env") or ():
        source = variable.get("valueFrom") or {}
        yield "secrets", (source.get("secretKeyRef") or {}).get("name")
        yield "configmaps", (source.get("configMapKeyRef") or {}).get("name")


def _volume_references(volume: Object, pod_name: str) -> Iterator[tuple[str, Any]]:
    yield "secrets", (volume.get("secret") or {}).get("secretName")
    yield "secrets", (volume.get("azureFile") or {}).get("secretName")
    yield "secrets", ((volume.get("csi") or {}).get("nodePublishSecretRef") or {}).get("name")
    for source in _SECRET_REF_SOURCES:
        yield "secrets", ((volume.get(source) or {}).get("secretRef") or {}).get("name")
    yield "configmaps", (volume.get("configMap") or {}).get("name")
    for part in (volume.get("projected") or {}).get("sources") or ():
        yield "secrets", (part.get("secret") or {}).get("name")
        yield "configmaps", (part.get("configMap") or {}).get("name")
    if claim := (volume.get("persistentVolumeClaim") or {}).get("claimName"):
        yield "persistentvolumeclaims", claim
    elif volume.get("ephemeral") is not None:
        yield "persistentvolumeclaims", f"{pod_name}-{volume.get('name')}"


def volume_secrets(volume: Object) -> Iterator[Reference]:
    """The secrets of a bound PersistentVolume that a kubelet must read."""
    spec = volume.get("spec") or {}
    home = (spec.get("claimRef") or {}).get("namespace") or ""
    if azure := spec.get("azureFile"):
        yield "secrets", azure.get("secretNamespace") or home, azure.get("secretName") or ""
    references = [(spec.get(source) or {}).get("secretRef") for source in _SECRET_REF_SOURCES]
    csi = spec.get("csi") or {}
    references += [csi.get(f"{what}SecretRef") for what in ("nodePublish", "nodeStage", "nodeExpand")]
    for reference in references:
        if reference and reference.get("name"):
            yield "secrets", reference.get("namespace") or home, reference["name"]
