"""Servers of webhooks in pods, and configurations that lead to them."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import Cluster, container, eventually
from components import python_image

from machinery import pki
from machinery.api.catalogue import (
    CONFIGMAPS,
    DEPLOYMENTS,
    MUTATINGWEBHOOKCONFIGURATIONS,
    SECRETS,
    SERVICES,
    VALIDATINGWEBHOOKCONFIGURATIONS,
)
from machinery.api.meta import Object
from machinery.api.resource import ResourceType
from machinery.errors import StatusError

PORT = 8443
_INSIDE = 8444
_FOLDER = "/certificates"


@dataclass(frozen=True, slots=True)
class Server:
    """A server in the test's namespace, behind a Service."""

    cluster: Cluster
    name: str
    authority: pki.KeyPair

    def client_config(self, path: str) -> Object:
        """Of a webhook, or of a conversion."""
        service = {"namespace": self.cluster.namespace, "name": self.name, "path": path, "port": PORT}
        return {"service": service, "caBundle": base64.b64encode(self.authority.certificate_pem).decode()}

    def hook(self, name: str, path: str, *rules: Object, **more: Any) -> Object:
        """A webhook for what happens in the test's namespace, unless told what to select."""
        chosen = {"namespaceSelector": self.here} if not {"namespaceSelector", "objectSelector"} & more.keys() else {}
        config = {"clientConfig": self.client_config(path), "rules": list(rules)}
        told = {"name": name, "sideEffects": "None", "admissionReviewVersions": ["v1", "v1beta1"]}
        return told | config | chosen | more

    @property
    def here(self) -> Object:
        """A selector of the test's namespace."""
        return {"matchLabels": {"kubernetes.io/metadata.name": self.cluster.namespace}}

    @property
    def ready(self) -> Object:
        """A webhook that denies config maps that say that they are markers."""
        markers = {"matchLabels": {"marker": self.cluster.namespace}}
        rule = rules("configmaps")
        return self.hook("ready.k8s.io", "/always-deny", rule, namespaceSelector=self.here, objectSelector=markers)

    @asynccontextmanager
    async def registered(self, resource: ResourceType, *hooks: Object, name: str = "") -> AsyncIterator[str]:
        """A configuration from when it is in force."""
        name = name or f"{self.cluster.namespace}-{resource.singular.removesuffix('webhookconfiguration')}"
        await self.cluster.create(resource, {"metadata": {"name": name}, "webhooks": [*hooks, self.ready]})
        try:
            await self.in_force()
            yield name
        finally:
            await self.cluster.delete(resource, name)

    async def in_force(self) -> None:
        """Wait until markers are denied."""
        marker = {"metadata": {"name": "marker", "labels": {"marker": self.cluster.namespace}}}

        async def is_denied() -> bool:
            try:
                await self.cluster.create(CONFIGMAPS, marker)
            except StatusError as exc:
                return "denied" in exc.message
            await self.cluster.delete(CONFIGMAPS, "marker")
            return False

        await eventually(is_denied, "markers are denied")


MUTATING, VALIDATING = MUTATINGWEBHOOKCONFIGURATIONS, VALIDATINGWEBHOOKCONFIGURATIONS


def rules(*resources: str, on: str = "CREATE", group: str = "", versions: str = "v1") -> Object:
    """What a webhook is called for; `on` are operations and `versions` versions, each word one."""
    what = {"apiGroups": [group], "apiVersions": versions.split(), "resources": list(resources)}
    return {"operations": on.split()} | what


async def serve(cluster: Cluster, program: str = "hook_server.py", name: str = "e2e-test-webhook") -> Server:
    """A deployment of a program that serves with a certificate of its own, from when it is behind its Service."""
    authority = pki.make_authority("e2e-server-cert-ca", algorithm="ECDSA-P256")
    domain = f"{name}.{cluster.namespace}.svc"
    pair = pki.issue(authority, domain, usages=pki.SERVER_USAGES, names=[domain], algorithm="ECDSA-P256")
    secret = {"tls.crt": pair.certificate_pem.decode(), "tls.key": pair.key_pem.decode()}
    await cluster.create(SECRETS, {"metadata": {"name": name}, "stringData": secret})
    await cluster.create(CONFIGMAPS, {"metadata": {"name": name}, "data": {program: _text(program)}})
    labels = {"app": name}
    probe = {"httpGet": {"scheme": "HTTPS", "port": _INSIDE, "path": "/readyz"}, "periodSeconds": 1}
    server = container(
        "/usr/bin/python3.11",
        f"/program/{program}",
        _FOLDER,
        str(_INSIDE),
        image=await python_image(cluster),
        readinessProbe=probe | {"failureThreshold": 30},
        volumeMounts=[{"name": "program", "mountPath": "/program"}, {"name": "certificates", "mountPath": _FOLDER}],
    )
    volumes = [
        {"name": "program", "configMap": {"name": name}},
        {"name": "certificates", "secret": {"secretName": name}},
    ]
    spec = {"terminationGracePeriodSeconds": 0, "containers": [server], "volumes": volumes}
    template = {"metadata": {"labels": labels}, "spec": spec}
    await cluster.create(
        DEPLOYMENTS,
        {"metadata": {"name": name}, "spec": {"selector": {"matchLabels": labels}, "template": template}},
    )
    ports = [{"port": PORT, "targetPort": _INSIDE}]
    await cluster.create(SERVICES, {"metadata": {"name": name}, "spec": {"selector": labels, "ports": ports}})
    await cluster.object_that(
        DEPLOYMENTS, name, lambda found: found.get("status", {}).get("availableReplicas") == 1, "available"
    )
    return Server(cluster, name, authority)


def _text(program: str) -> str:
    return (Path(__file__).parent / program).read_text()
