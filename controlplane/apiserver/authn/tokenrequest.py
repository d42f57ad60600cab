"""serviceaccounts/NAME/token: a token for a service account, if wished bound to a pod, node or secret.

Source: k8s.io/kubernetes/pkg/registry/core/serviceaccount/storage/token.go, pkg/apis/authentication/validation.
"""

from __future__ import annotations

import asyncio
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
_BOUND = {"Pod": PODS, "Node": NODES, "Secret": SECRETS}
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
        spec = dict(call.object.get("spec") or {})
        reference = spec.get("boundObjectRef")
        account, referred = await asyncio.gather(
            self.reader.get_latest(SERVICEACCOUNTS, call.namespace, call.name), self._referred(call, reference or {})
        )
        account = _found(account, SERVICEACCOUNTS, call.name)
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
        bound = await self._bound(call, reference, referred) if reference else []
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

    async def _referred(self, call: Call, reference: Object) -> Object | None:
        """What the token is to be bound to, if it is there."""
        resource = _bound_resource(reference)
        if resource is None:
            return None
        namespace = call.namespace if resource.namespaced else ""
        return await self.reader.get_latest(resource, namespace, reference.get("name") or "")

    async def _bound(self, call: Call, reference: Object, referred: Object | None) -> list[tuple[str, Object]]:
        """The objects that the token names, by their claims."""
        kind, name, uid = (reference.get(key) or "" for key in ("kind", "name", "uid"))
        resource = _bound_resource(reference)
        if resource is None:
            group, _, version = (reference.get("apiVersion") or "").rpartition("/")
            raise BadRequest(f"cannot bind token to object of type {group}/{version}, Kind={kind}")
        bound = [(resource.singular, _found(referred, resource, name))]
        if resource is PODS:
            pod_spec = bound[0][1].get("spec") or {}
            if pod_spec.get("serviceAccountName") != call.name:
                raise BadRequest(
                    f"cannot bind token for serviceaccount {show(call.name)} "
                    "to pod running with different serviceaccount name."
                )
            if node_name := pod_spec.get("nodeName"):
                node = self.reader.get(NODES, "", node_name) or await self.reader.get_latest(NODES, "", node_name)
                # A pod may be bound to a node that is not there (yet): its name is told nevertheless.
                bound.append(("node", node or {"metadata": {"name": node_name}}))
        if uid and uid != uid_of(bound[0][1]):
            raise Conflict(
                f"Operation cannot be fulfilled on {kind} {show(name_of(bound[0][1]))}: the UID in the bound object "
                f"reference ({uid}) does not match the UID in record. "
                "The object might have been deleted and then recreated",
                details={"name": name, "kind": kind},
            )
        return bound


def _bound_resource(reference: Object) -> ResourceType | None:
    in_a_group = "/" in (reference.get("apiVersion") or "")
    return None if in_a_group else _BOUND.get(reference.get("kind") or "")


def _found(obj: Object | None, resource: ResourceType, name: str) -> Object:
    if obj is None:
        raise NotFound(f"{resource.plural} {show(name)} not found", details={"name": name, "kind": resource.plural})
    return obj
