"""Plugins for networking objects.

Source: k8s.io/kubernetes/plugin/pkg/admission/network.
"""

from __future__ import annotations

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.plugin import CREATE, UPDATE, BasePlugin, refuse, spec_of, subject
from controlplane.apiserver.admission.storage import newest
from controlplane.apiserver.reader import Reader
from machinery.api.catalogue import INGRESSCLASSES, INGRESSES, SERVICES
from machinery.api.meta import annotations_of, name_of

_DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"
_CLASS_ANNOTATION = "kubernetes.io/ingress.class"


class DefaultIngressClass(BasePlugin):
    """An Ingress that says nothing about its class gets the default one."""

    name = "DefaultIngressClass"
    resources = (INGRESSES,)

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def admit(self, operation: Operation) -> None:
        """Set ingressClassName."""
        ingress = subject(operation)
        spec = spec_of(ingress)
        if spec.get("ingressClassName") is not None or _CLASS_ANNOTATION in annotations_of(ingress):
            return
        classes = self._reader.list(INGRESSCLASSES)
        defaults = [c for c in classes if annotations_of(c).get(_DEFAULT_CLASS) == "true"]
        if defaults:
            spec["ingressClassName"] = name_of(newest(defaults))


class DenyServiceExternalIPs(BasePlugin):
    """Nobody adds external addresses to a Service."""

    name = "DenyServiceExternalIPs"
    verbs = (CREATE, UPDATE)
    resources = (SERVICES,)

    async def validate(self, operation: Operation) -> None:
        """Raises Forbidden."""
        had = set(((operation.old or {}).get("spec") or {}).get("externalIPs") or ())
        has = set((subject(operation).get("spec") or {}).get("externalIPs") or ())
        if has - had:
            raise refuse(operation, "Use of external IPs is denied by admission control")
