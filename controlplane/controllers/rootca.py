"""Every namespace has a ConfigMap kube-root-ca.crt, by which pods know the API server.

Source: k8s.io/kubernetes/pkg/controller/certificates/rootcacertpublisher; KEP-1205.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from controlplane.controllers import metrics
from controlplane.controllers.environment import Environment
from controlplane.controllers.podcontrol import namespace_terminates
from controlplane.controllers.serviceaccounts import is_active_namespace
from machinery.api.catalogue import CONFIGMAPS, NAMESPACES
from machinery.api.meta import Object, annotations_of, name_of, namespace_of
from machinery.cache.informer import Informer
from machinery.client.rest import Client
from machinery.controller import Controller
from machinery.errors import AlreadyExists, SettingsError, StatusError

NAME = "kube-root-ca.crt"
ACCOUNT = "root-ca-cert-publisher"
DESCRIPTION = {
    "kubernetes.io/description": (
        "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
        "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of "
        "Kubernetes clusters."
    )
}


def plan_config_map(namespace: str, present: Object | None, bundle: str) -> Object | None:
    """The ConfigMap to write, or None if it is as it should be."""
    data = {"ca.crt": bundle}
    if present is None:
        metadata = {"name": NAME, "namespace": namespace, "annotations": DESCRIPTION}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
    annotations = annotations_of(present)
    if present.get("data") == data and annotations.items() >= DESCRIPTION.items():
        return None
    return {**present, "metadata": {**present["metadata"], "annotations": {**annotations, **DESCRIPTION}}, "data": data}


@dataclass(frozen=True)
class RootCAReconciler:
    """Publishes the bundle to one namespace."""

    namespaces: Informer
    published: Informer
    client: Client
    bundle: str

    async def reconcile(self, key: str) -> float | None:
        """Create or mend the namespace's ConfigMap."""
        namespace = self.namespaces.get(key)
        if namespace is None or not is_active_namespace(namespace):
            return None
        present = self.published.get(f"{key}/{NAME}")
        wanted = plan_config_map(key, present, self.bundle)
        if wanted is None:
            return None
        started, code = time.perf_counter(), "200"
        try:
            if present is None:
                await self.client.create(CONFIGMAPS, wanted)
            else:
                await self.client.update(CONFIGMAPS, wanted)
        except AlreadyExists:
            return None  # the cache lags; its change leads here again
        except StatusError as exc:
            code = str(exc.code)
            if not namespace_terminates(exc):
                raise
        finally:
            metrics.ROOT_CA_SYNCS.labels(code).inc()
            metrics.ROOT_CA_SECONDS.labels(code).observe(time.perf_counter() - started)
        return None


def build(env: Environment) -> list[Controller]:
    """The publisher of the API server's certificate authority. Raises SettingsError if its file can't be read."""
    path = env.options["root-ca-file"]
    if not path:
        return []
    try:
        bundle = Path(path).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(f"--root-ca-file: cannot read {path}: {exc}") from exc
    namespaces = env.informer(NAMESPACES)
    published = env.informers.of(CONFIGMAPS, field_selector=f"metadata.name={NAME}")
    reconciler = RootCAReconciler(namespaces, published, env.client_for(ACCOUNT), bundle)
    controller = Controller("root_ca_cert_publisher", reconciler.reconcile, workers=1)
    namespaces.on_change(lambda old, new: controller.enqueue(name_of(new)) if new is not None else None)
    published.on_change(lambda old, new: controller.enqueue(namespace_of(new or old or {})))
    return [controller]
