"""serviceaccounts/NAME/token: a token for a service account, if wished bound to a pod, node or secret.

Source: k8s.io/kubernetes/pkg/registry/core/serviceaccount/storage/token.go, pkg/apis/authentication/validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from controlplane.apiserver.authn.issuer import TokenIssuer
from controlplane.apiserver.handlers.contract import Call
from controlplane.apiserver.reader import Reader
from machinery.api.catalogue import NODES, PODS, SECRETS, SERVICEACCOUNTS
from machinery.api.fielderror import invalid, invalid_object, show
from machinery.api.meta import Object, format_time, name_of, uid_of
from machinery.api.resource import ResourceType
from machinery.clock import Clock
from machinery.errors import BadRequest, Conflict, NotFound

DEFAULT_SECONDS = 3600
KUBELET_SECONDS = 3607
"""What pods' own volumes ask for: short enough to rotate, and told apart from what a person would ask for."""
EXTENDED_SECONDS = 365 * 24 * 3600
_LEAST_SECONDS = 600
_MOST_SECONDS = 1 << 32


@dataclass(frozen=True, slots=True)
class TokenRequests:
    """Answers TokenRequests."""

    issuer: TokenIssuer
    reader: Reader
    clock: Clock
    api_audiences: Sequence[str]
    max_seconds: int = 0  # 0: no limit
    extend: bool = True
    """Whether tokens of pods live for a year, with a mark when they should have been renewed."""

    async def __call__(self, call: Call) -> Object:
        """The request with the token in its status. Raises NotFound, Invalid, BadRequest, Conflict."""
        account = await self._get(SERVICEACCOUNTS, call.namespace, call.name)
        spec = dict(call.object.get("spec") or {})
        audiences = spec.get("audiences") or list(self.api_audiences)
        seconds = spec.get("expirationSeconds") or DEFAULT_SECONDS
        field = "spec.expirationSeconds"
        if seconds < _LEAST_SECONDS:
            wrong = invalid(field, seconds, "may not specify a duration less than 10 minutes")
            raise invalid_object("authentication.k8s.io", "TokenRequest", "", [wrong])
        if seconds > _MOST_SECONDS:
            wrong = invalid(field, seconds, "may not specify a duration larger than 2^32 seconds")
            raise invalid_object("authentication.k8s.io", "TokenRequest", "", [wrong])
        if self.max_seconds and seconds > self.max_seconds:
            call.warnings.append(f"requested expiration of {seconds} seconds shortened to {self.max_seconds} seconds")
            seconds = self.max_seconds
        reference = spec.get("boundObjectRef")
        bound = await self._bound(call, reference) if reference else []
        lives, warn_after = seconds, 0
        if self.extend and seconds == KUBELET_SECONDS and set(audiences) <= set(self.api_audiences):
            lives, warn_after = EXTENDED_SECONDS, seconds
        now = self.clock.now()
        token = self.issuer.issue(
            account,
            audiences=audiences,
            now=int(now.timestamp()),
            seconds=lives,
            warn_after_seconds=warn_after,
            bound=bound,
        )
        metadata = {
            "name": call.name,
            "namespace": call.namespace,
            "uid": uid_of(account),
            "creationTimestamp": call.now,
        }
        answered = {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": reference or None}
        expires = format_time(now + timedelta(seconds=seconds))
        status = {"token": token, "expirationTimestamp": expires}
        return call.object | {"metadata": metadata, "spec": answered, "status": status}

    async def _get(self, resource: ResourceType, namespace: str, name: str) -> Object:
        obj = await self.reader.get_latest(resource, namespace, name)
        if obj is None:
            raise NotFound(f"{resource.plural} {show(name)} not found", details={"name": name, "kind": resource.plural})
        return obj

    async def _bound(self, call: Call, reference: Object) -> list[tuple[str, Object]]:
        version, kind = reference.get("apiVersion") or "", reference.get("kind") or ""
        name, uid = reference.get("name") or "", reference.get("uid") or ""
        group, _, version = version.rpartition("/")
        bound: list[tuple[str, Object]]
        match group, kind:
            case "", "Pod":
                pod = await self._get(PODS, call.namespace, name)
                spec = pod.get("spec") or {}
                if spec.get("serviceAccountName") != call.name:
                    raise BadRequest(
                        f"cannot bind token for serviceaccount {show(call.name)} "
                        "to pod running with different serviceaccount name."
                    )
                bound = [("pod", pod)]
                if node_name := spec.get("nodeName"):
                    node = await self.reader.get_latest(NODES, "", node_name)
                    # A pod may be bound to a node that is not there (yet): its name is told nevertheless.
                    bound.append(("node", node or {"metadata": {"name": node_name}}))
            case "", "Node":
                bound = [("node", await self._get(NODES, "", name))]
            case "", "Secret":
                bound = [("secret", await self._get(SECRETS, call.namespace, name))]
            case _:
                raise BadRequest(f"cannot bind token to object of type {group}/{version}, Kind={kind}")
        if uid and uid != uid_of(bound[0][1]):
            raise Conflict(
                f"Operation cannot be fulfilled on {kind} {show(name_of(bound[0][1]))}: the UID in the bound object "
                f"reference ({uid}) does not match the UID in record. "
                "The object might have been deleted and then recreated",
                details={"name": name, "kind": kind},
            )
        return bound
