"""Nobody grants what he does not hold: checked on every write of a role or binding, whatever admission is configured.

Source: k8s.io/kubernetes/pkg/registry/rbac/{role,clusterrole,rolebinding,clusterrolebinding}/policybased,
pkg/registry/rbac/escalation_check.go, pkg/registry/rbac/validation/rule.go.
"""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.authz.rbac import RBACAuthorizer, aggregate
from controlplane.apiserver.authz.refusal import forbidden_object
from controlplane.apiserver.authz.rules import EVERYTHING, Rule, compile_rules, missing
from controlplane.apiserver.handlers.contract import Authorize
from controlplane.apiserver.request import RequestInfo
from machinery.api.fielderror import show
from machinery.api.meta import Object, name_of
from machinery.errors import StatusError

GROUP = "rbac.authorization.k8s.io"
_KINDS = frozenset({"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"})


class EscalationCheck:
    """An admission plugin that is always on: refuses roles and bindings that grant more than their writer holds."""

    name = "rbac-escalation-check"

    def __init__(self, rbac: RBACAuthorizer, authorize: Authorize) -> None:
        self._rbac = rbac
        self._authorize = authorize

    def handles(self, operation: Operation) -> bool:
        """Creations and updates of the four kinds of RBAC."""
        return operation.resource.group == GROUP and (
            operation.verb in ("CREATE", "UPDATE") and operation.resource.kind in _KINDS
        )

    async def admit(self, operation: Operation) -> None:
        """Nothing is changed."""

    async def validate(self, operation: Operation) -> None:
        """Raises Forbidden; NotFound for a binding to a role that does not exist."""
        obj, old = operation.object, operation.old
        if obj is None or "system:masters" in operation.user.groups:
            return
        if old is not None and _only_for_garbage_collection(old, obj):
            return
        if operation.resource.kind.endswith("Role"):
            await self._role(operation, obj, old)
        else:
            await self._binding(operation, obj)

    async def _role(self, operation: Operation, obj: Object, old: Object | None) -> None:
        if await self._may(operation, "escalate", operation.resource.plural, name_of(obj) or operation.name):
            return
        self._confirm(operation, compile_rules(obj.get("rules")))
        if obj.get("aggregationRule") or (old or {}).get("aggregationRule"):
            held, _ = self._rbac.rules_for(operation.user, operation.namespace)
            if missing(held, EVERYTHING):
                raise self._refusal(operation, "must have cluster-admin privileges to use the aggregationRule")

    async def _binding(self, operation: Operation, obj: Object) -> None:
        reference = obj.get("roleRef") or {}
        kind, role = str(reference.get("kind", "")), str(reference.get("name", ""))
        plural = {"Role": "roles", "ClusterRole": "clusterroles"}.get(kind, "")
        if plural and await self._may(operation, "bind", plural, role):
            return
        self._confirm(operation, self._rbac.role_rules(kind, role, operation.namespace))

    async def _may(self, operation: Operation, verb: str, resource: str, name: str) -> bool:
        asked = RequestInfo(
            verb=verb,
            path="",
            is_resource=True,
            group=GROUP,
            version="*",
            resource=resource,
            namespace=operation.namespace,
            name=name,
        )
        allowed, _ = await self._authorize(operation.user, asked)
        return allowed

    def _confirm(self, operation: Operation, wanted: Sequence[Rule]) -> None:
        held, errors = self._rbac.rules_for(operation.user, operation.namespace)
        lacking = missing(held, wanted)
        if not lacking:
            return
        user = operation.user
        groups = " ".join(show(group) for group in user.groups)
        told = (
            f"user {show(user.name)} (groups=[{groups}]) is attempting to grant RBAC permissions "
            "not currently held:\n" + "\n".join(lacking)
        )
        if errors:
            told += f"; resolution errors: [{aggregate(errors)}]"
        raise self._refusal(operation, told)

    def _refusal(self, operation: Operation, told: str) -> StatusError:
        name = name_of(operation.object or {}) or operation.name
        return forbidden_object(GROUP, operation.resource.plural, name, told)


def _only_for_garbage_collection(old: Object, new: Object) -> bool:
    """Whether only finalizers and owners differ: what the garbage collector must be able to write."""
    return _without(old) == _without(new)


def _without(obj: Object) -> Object:
    dropped = ("finalizers", "ownerReferences", "managedFields", "resourceVersion", "generation")
    metadata = {key: value for key, value in (obj.get("metadata") or {}).items() if key not in dropped}
    return obj | {"metadata": metadata}
