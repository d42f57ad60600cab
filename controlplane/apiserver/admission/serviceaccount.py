"""ServiceAccount: every pod has a service account, and the means to speak for it.

Source: k8s.io/kubernetes/plugin/pkg/admission/serviceaccount.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.plugin import CREATE, UPDATE, BasePlugin, refuse, spec_of, subject
from controlplane.apiserver.authz.nodegraph import MIRROR_POD
from controlplane.apiserver.authz.podrefs import pod_references
from controlplane.apiserver.reader import Reader
from machinery.api.catalogue import PODS, SERVICEACCOUNTS
from machinery.api.fielderror import show
from machinery.api.meta import Object, annotations_of, name_of, random_suffix

MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN_SECONDS = 3607
_VOLUME_PREFIX = "kube-api-access-"
_ENFORCE_MOUNTABLE_SECRETS = "kubernetes.io/enforce-mountable-secrets"
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_DEFAULT = "default"
_LOOKS = 10  # for the default account, which a controller makes a moment after its namespace


class ServiceAccount(BasePlugin):
    """Fills in the account, its pull secrets and the volume with its token; refuses accounts that are not there."""

    name = "ServiceAccount"

    def __init__(self, reader: Reader, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._reader = reader
        self._sleep = sleep

    def handles(self, operation: Operation) -> bool:
        """Creations of pods, and ephemeral containers."""
        if operation.resource != PODS:
            return False
        if operation.verb == CREATE:
            return not operation.subresource
        return operation.verb == UPDATE and operation.subresource == "ephemeralcontainers"

    async def admit(self, operation: Operation) -> None:
        """Raises Forbidden."""
        if operation.verb != CREATE:
            return
        pod = subject(operation)
        if MIRROR_POD in annotations_of(pod):
            return  # a kubelet's copy of a static pod must stay as it is
        spec = spec_of(pod)
        if not spec.get("serviceAccountName"):
            spec["serviceAccountName"] = _DEFAULT
        # The old name of the field is always told as well.
        spec["serviceAccount"] = spec["serviceAccountName"]
        account = await self._account(operation, spec["serviceAccountName"])
        if _automount(spec, account):
            mount_token(spec)
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = [{"name": s.get("name") or ""} for s in account["imagePullSecrets"]]

    async def validate(self, operation: Operation) -> None:
        """Raises Forbidden."""
        pod = subject(operation)
        spec = pod.get("spec") or {}
        if operation.verb == CREATE and MIRROR_POD in annotations_of(pod):
            _check_mirror(operation, pod)
            return
        name = spec.get("serviceAccountName") or ""
        if not name:
            told = f"no service account specified for pod {operation.namespace}/{name_of(pod)}"
            raise refuse(operation, told)
        account = await self._account(operation, name)
        if annotations_of(account).get(_ENFORCE_MOUNTABLE_SECRETS) in _TRUE:
            _check_secrets(operation, pod, account)

    async def _account(self, operation: Operation, name: str) -> Object:
        namespace = operation.namespace
        account = self._reader.get(SERVICEACCOUNTS, namespace, name)
        pause = random.uniform(0.1, 0.2)
        for look in range(_LOOKS if name == _DEFAULT else 1):
            # A namespace and its first pod are often made in one go: storage may be ahead of memory.
            if account is not None:
                break
            if look:
                await self._sleep(pause)
            account = await self._reader.get_latest(SERVICEACCOUNTS, namespace, name)
        if account is None:
            told = f"error looking up service account {namespace}/{name}: serviceaccount {show(name)} not found"
            raise refuse(operation, told)
        return account


def mount_token(spec: Object) -> None:
    """Give every container of a pod the account's token, unless something else is mounted there."""
    volumes = spec.get("volumes") or []
    existing = next((v["name"] for v in volumes if v.get("name", "").startswith(_VOLUME_PREFIX)), None)
    name = existing or _VOLUME_PREFIX + random_suffix()
    needed = False
    for kind in ("initContainers", "containers"):
        for container in spec.get(kind) or ():
            mounts = container.get("volumeMounts") or []
            if any(mount.get("mountPath") == MOUNT_PATH for mount in mounts):
                continue
            container["volumeMounts"] = [*mounts, {"name": name, "readOnly": True, "mountPath": MOUNT_PATH}]
            needed = True
    if needed and existing is None:
        spec["volumes"] = [*volumes, {"name": name, "projected": token_source()}]


def token_source() -> Object:
    """The projected volume of a pod's access to the API: token, certificate authority, namespace."""
    namespace = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    return {
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": namespace}]}},
        ],
        "defaultMode": 420,
    }


def _automount(spec: Object, account: Object) -> bool:
    for holder in (spec, account):
        wish = holder.get("automountServiceAccountToken")
        if wish is not None:
            return bool(wish)
    return True


def _check_mirror(operation: Operation, pod: Object) -> None:
    if (pod.get("spec") or {}).get("serviceAccountName"):
        raise refuse(operation, "a mirror pod may not reference service accounts")
    if any(resource == "secrets" for resource, _, _ in pod_references(pod)):
        raise refuse(operation, "a mirror pod may not reference secrets")
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        for source in (volume.get("projected") or {}).get("sources") or ():
            if source.get("serviceAccountToken") is not None:
                raise refuse(operation, "a mirror pod may not use ServiceAccountToken volume projections")


def _check_secrets(operation: Operation, pod: Object, account: Object) -> None:
    """An account may say that its pods use no secrets but those it lists."""
    _check_mounted(operation, pod, account)
    if operation.verb != CREATE:
        return
    pullable = {s.get("name") for s in account.get("imagePullSecrets") or ()}
    for index, secret in enumerate((pod.get("spec") or {}).get("imagePullSecrets") or ()):
        if secret.get("name") not in pullable:
            name = show(secret.get("name") or "")
            raise refuse(
                operation,
                f"imagePullSecrets[{index}].name={name} is not allowed because service account "
                f"{name_of(account)} does not reference that imagePullSecret",
            )


def _check_mounted(operation: Operation, pod: Object, account: Object) -> None:
    mountable = {s.get("name") for s in account.get("secrets") or ()}
    spec = pod.get("spec") or {}
    told = f"because service account {name_of(account)} does not reference that secret"
    if operation.verb == CREATE:
        for volume in spec.get("volumes") or ():
            name = (volume.get("secret") or {}).get("secretName")
            if name and name not in mountable:
                raise refuse(operation, f"volume with secret.secretName={show(name)} is not allowed {told}")
    kinds = ("initContainers", "containers") if operation.verb == CREATE else ("ephemeralContainers",)
    for kind in kinds:
        called = {"initContainers": "init container", "containers": "container"}.get(kind, "ephemeral container")
        for container in spec.get(kind) or ():
            for what, name in _environment_secrets(container):
                if name not in mountable:
                    where = f"{called} {container.get('name')} with {what}"
                    raise refuse(operation, f"{where} referencing secret.secretName={show(name)} is not allowed {told}")


def _environment_secrets(container: Any) -> Iterator[tuple[str, str]]:
    for variable in container.get("env") or ():
        reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
        if reference is not None:
            yield f"envVar {variable.get('name')}", reference.get("name") or ""
    for source in container.get("envFrom") or ():
        if source.get("secretRef") is not None:
            yield "envFrom", source["secretRef"].get("name") or ""
