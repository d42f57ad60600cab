"""Nobody grants what he does not hold."""

from __future__ import annotations

import pytest
from auth_store import ADMIN, Store, creates, named, updates

from controlplane.apiserver.authz.chain import build, of_modes
from controlplane.apiserver.authz.contract import Decision
from controlplane.apiserver.authz.escalation import EscalationCheck
from controlplane.apiserver.request import RequestInfo, User
from machinery.api.catalogue import CLUSTERROLEBINDINGS, CLUSTERROLES, ROLEBINDINGS, ROLES
from machinery.api.meta import Object
from machinery.errors import Forbidden, NotFound

JANE = User("jane", groups=("system:authenticated",))
RBAC = "rbac.authorization.k8s.io"


def rule(verbs: list[str], resources: list[str], group: str = "", **rest: list[str]) -> Object:
    return {"verbs": verbs, "apiGroups": [group], "resources": resources, **rest}


def check_for(*held: Object) -> tuple[EscalationCheck, Store]:
    """A server where Jane holds these rules in namespace x."""
    store = Store()
    store.put(ROLES, named("held", "x", rules=list(held)))
    subject = {"kind": "User", "name": "jane"}
    store.put(ROLEBINDINGS, named("b", "x", subjects=[subject], roleRef={"kind": "Role", "name": "held"}))
    store.put(CLUSTERROLES, named("cluster-admin", rules=[rule(["*"], ["*"], "*")]))
    chain = build(of_modes(["RBAC"]), store)
    assert chain.rbac is not None

    async def authorize(user: User, request: RequestInfo) -> tuple[bool, str]:
        decision, reason = await chain.authorize(user, request)
        return decision is Decision.ALLOW, reason

    return EscalationCheck(chain.rbac, authorize), store


def role(*rules: Object, name: str = "new") -> Object:
    return named(name, "x", rules=list(rules))


def binding(kind: str, to: str) -> Object:
    return named("rb", "x", subjects=[], roleRef={"kind": kind, "name": to})


async def test_a_role_may_grant_what_its_writer_holds() -> None:
    check, _ = check_for(rule(["get", "list"], ["configmaps", "pods"]), rule(["get"], ["secrets"], resourceNames=["a"]))
    await check.validate(creates(ROLES, role(rule(["list"], ["pods"])), JANE))
    await check.validate(creates(ROLES, role(rule(["get"], ["secrets"], resourceNames=["a"])), JANE))


async def test_a_role_may_not_grant_more() -> None:
    check, _ = check_for(rule(["get"], ["configmaps"]))
    wanted = role(rule(["get", "list"], ["secrets"]), rule(["get", "delete"], ["configmaps"]))
    with pytest.raises(Forbidden) as refused:
        await check.validate(creates(ROLES, wanted, JANE))
    assert refused.value.message == (
        'roles.rbac.authorization.k8s.io "new" is forbidden: user "jane" (groups=["system:authenticated"]) is '
        "attempting to grant RBAC permissions not currently held:\n"
        '{APIGroups:[""], Resources:["configmaps"], Verbs:["delete"]}\n'
        '{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}'
    )


async def test_the_verb_escalate_lifts_it() -> None:
    check, _ = check_for(rule(["escalate"], ["roles"], RBAC))
    await check.validate(creates(ROLES, role(rule(["*"], ["*"], "*")), JANE))


async def test_an_update_is_looked_at_like_a_creation() -> None:
    check, _ = check_for(rule(["get"], ["configmaps"]))
    old = role(rule(["get"], ["configmaps"]))
    with pytest.raises(Forbidden):
        await check.validate(updates(ROLES, role(rule(["get"], ["secrets"])), old, JANE))
    big = role(rule(["get"], ["secrets"]))
    collected = big | {"metadata": big["metadata"] | {"ownerReferences": [{"uid": "u"}]}}
    await check.validate(updates(ROLES, collected, big, JANE))


async def test_a_binding_needs_what_the_role_grants_or_the_verb_bind() -> None:
    check, store = check_for(rule(["get"], ["configmaps"]))
    await check.validate(creates(ROLEBINDINGS, binding("Role", "held"), JANE))
    with pytest.raises(Forbidden) as refused:
        await check.validate(creates(ROLEBINDINGS, binding("ClusterRole", "cluster-admin"), JANE))
    assert 'rolebindings.rbac.authorization.k8s.io "rb" is forbidden: user "jane"' in refused.value.message
    assert refused.value.message.endswith('{APIGroups:["*"], Resources:["*"], Verbs:["*"]}')
    with pytest.raises(NotFound):
        await check.validate(creates(ROLEBINDINGS, binding("Role", "not-there"), JANE))
    store.put(
        ROLES, named("held", "x", rules=[rule(["bind"], ["clusterroles"], RBAC, resourceNames=["cluster-admin"])])
    )
    await check.validate(creates(ROLEBINDINGS, binding("ClusterRole", "cluster-admin"), JANE))


async def test_paths_are_permissions_too() -> None:
    check, store = check_for()
    store.put(CLUSTERROLES, named("paths", rules=[{"verbs": ["get"], "nonResourceURLs": ["/logs/*"]}]))
    subject = {"kind": "User", "name": "jane"}
    store.put(CLUSTERROLEBINDINGS, named("p", subjects=[subject], roleRef={"kind": "ClusterRole", "name": "paths"}))
    within = named("new", rules=[{"verbs": ["get"], "nonResourceURLs": ["/logs/kubelet"]}])
    await check.validate(creates(CLUSTERROLES, within, JANE))
    beyond = named("new", rules=[{"verbs": ["get", "post"], "nonResourceURLs": ["/logs/*", "/metrics"]}])
    with pytest.raises(Forbidden) as refused:
        await check.validate(creates(CLUSTERROLES, beyond, JANE))
    assert '{NonResourceURLs:["/metrics"], Verbs:["get"]}\n' in refused.value.message


async def test_aggregation_needs_everything() -> None:
    check, _ = check_for(rule(["get"], ["configmaps"]))
    gathering = named("new", rules=None, aggregationRule={"clusterRoleSelectors": [{}]})
    with pytest.raises(Forbidden, match="must have cluster-admin privileges to use the aggregationRule"):
        await check.validate(creates(CLUSTERROLES, gathering, JANE))
    await check.validate(creates(CLUSTERROLES, gathering, ADMIN))
