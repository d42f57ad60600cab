"""RBAC: what bindings grant, as they come and go, and what is told to those who may not."""

from __future__ import annotations

from auth_store import Store, asks, named

from controlplane.apiserver.authz.chain import Chain, build, of_modes
from controlplane.apiserver.authz.contract import Decision
from controlplane.apiserver.authz.rbac import RBACAuthorizer
from controlplane.apiserver.request import RequestInfo, User
from machinery.api.catalogue import CLUSTERROLEBINDINGS, CLUSTERROLES, ROLEBINDINGS, ROLES
from machinery.api.meta import Object
from machinery.errors import Forbidden

JANE = User("jane", groups=("dev", "system:authenticated"))


def rules(*texts: str) -> list[Object]:
    """`get,list pods in apps`: verbs, resources, group."""
    made = []
    for text in texts:
        verbs, resources, *group = text.split()
        made.append({"verbs": verbs.split(","), "resources": resources.split(","), "apiGroups": group or [""]})
    return made


def bound(name: str, role: str, *subjects: tuple[str, str], namespace: str = "", kind: str = "ClusterRole") -> Object:
    made = []
    for subject, who in subjects:
        home, _, account = who.rpartition("/")
        one = {"kind": subject, "name": account if subject == "ServiceAccount" else who}
        made.append(one | ({"namespace": home} if home and subject == "ServiceAccount" else {}))
    return named(name, namespace, subjects=made, roleRef={"kind": kind, "name": role})


def store_with_viewer() -> Store:
    store = Store()
    store.put(CLUSTERROLES, named("viewer", rules=rules("get,list pods", "get pods/log", "* deployments apps")))
    return store


async def decide(store: Store, user: User, request: RequestInfo) -> tuple[Decision, str]:
    return await RBACAuthorizer(store).authorize(user, request)


async def test_a_cluster_role_binding_grants_everywhere_and_says_so() -> None:
    store = store_with_viewer()
    store.put(CLUSTERROLEBINDINGS, bound("b", "viewer", ("User", "joe"), ("Group", "dev")))
    told = 'RBAC: allowed by ClusterRoleBinding "b" of ClusterRole "viewer" to Group "dev"'
    assert await decide(store, JANE, asks("list", "pods", namespace="x")) == (Decision.ALLOW, told)
    assert await decide(store, JANE, asks("list", "pods")) == (Decision.ALLOW, told)
    assert await decide(store, JANE, asks("patch", "deployments", "apps")) == (Decision.ALLOW, told)
    assert await decide(store, JANE, asks("delete", "pods")) == (Decision.NO_OPINION, "")
    assert await decide(store, JANE, asks("list", "pods", "apps")) == (Decision.NO_OPINION, "")


async def test_a_role_binding_grants_in_its_namespace_alone() -> None:
    store = store_with_viewer()
    store.put(ROLEBINDINGS, bound("b", "viewer", ("User", "jane"), namespace="x"))
    told = 'RBAC: allowed by RoleBinding "b/x" of ClusterRole "viewer" to User "jane"'
    assert await decide(store, JANE, asks("get", "pods/log", namespace="x")) == (Decision.ALLOW, told)
    assert (await decide(store, JANE, asks("get", "pods", namespace="y")))[0] is Decision.NO_OPINION
    assert (await decide(store, JANE, asks("get", "pods")))[0] is Decision.NO_OPINION


async def test_subresources_are_resources_of_their_own() -> None:
    store = Store()
    store.put(CLUSTERROLES, named("r", rules=rules("get pods,*/scale", "update */status apps")))
    store.put(CLUSTERROLEBINDINGS, bound("b", "r", ("User", "jane")))
    for request, allowed in [
        (asks("get", "pods"), True),
        (asks("get", "pods/log"), False),
        (asks("get", "replicationcontrollers/scale"), True),
        (asks("get", "replicationcontrollers"), False),
        (asks("update", "deployments/status", "apps"), True),
        (asks("update", "deployments", "apps"), False),
    ]:
        assert ((await decide(store, JANE, request))[0] is Decision.ALLOW) is allowed, request


async def test_resource_names_narrow_and_another_rule_may_still_allow() -> None:
    store = Store()
    narrow = {"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["mine"]}
    store.put(ROLES, named("r", "x", rules=[narrow]))
    store.put(ROLEBINDINGS, bound("b", "r", ("User", "jane"), namespace="x", kind="Role"))
    rbac = RBACAuthorizer(store)
    assert (await rbac.authorize(JANE, asks("get", "secrets", namespace="x", name="mine")))[0] is Decision.ALLOW
    assert (await rbac.authorize(JANE, asks("get", "secrets", namespace="x", name="no")))[0] is Decision.NO_OPINION
    assert (await rbac.authorize(JANE, asks("get", "secrets", namespace="x")))[0] is Decision.NO_OPINION
    store.put(ROLES, named("r", "x", rules=[narrow, {**narrow, "resourceNames": []}]))
    assert (await rbac.authorize(JANE, asks("get", "secrets", namespace="x", name="no")))[0] is Decision.ALLOW


async def test_a_service_account_is_the_user_of_its_name() -> None:
    store = store_with_viewer()
    store.put(CLUSTERROLEBINDINGS, bound("b", "viewer", ("ServiceAccount", "x/robot")))
    store.put(ROLEBINDINGS, bound("l", "viewer", ("ServiceAccount", "local"), namespace="y"))
    robot = User("system:serviceaccount:x:robot", groups=("system:serviceaccounts",))
    decision, told = await decide(store, robot, asks("get", "pods", namespace="z"))
    assert decision is Decision.ALLOW
    assert told.endswith('to ServiceAccount "robot/x"')
    local = User("system:serviceaccount:y:local")
    assert (await decide(store, local, asks("get", "pods", namespace="y")))[0] is Decision.ALLOW


async def test_paths_match_exactly_or_by_a_trailing_star() -> None:
    store = Store()
    store.put(CLUSTERROLES, named("r", rules=[{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/api/*"]}]))
    store.put(CLUSTERROLEBINDINGS, bound("b", "r", ("Group", "dev")))
    for path, allowed in {"/healthz": True, "/healthz/x": False, "/api/v1": True, "/apis": False}.items():
        decision, _ = await decide(store, JANE, RequestInfo("get", path))
        assert (decision is Decision.ALLOW) is allowed, path
    assert (await decide(store, JANE, RequestInfo("post", "/healthz")))[0] is Decision.NO_OPINION


async def test_changes_count_at_once() -> None:
    store = store_with_viewer()
    rbac = RBACAuthorizer(store)
    request = asks("get", "pods", namespace="x")
    assert (await rbac.authorize(JANE, request))[0] is Decision.NO_OPINION
    store.put(ROLEBINDINGS, bound("b", "viewer", ("User", "jane"), namespace="x"))
    assert (await rbac.authorize(JANE, request))[0] is Decision.ALLOW
    store.put(ROLEBINDINGS, bound("b", "viewer", ("User", "joe"), namespace="x"))
    assert (await rbac.authorize(JANE, request))[0] is Decision.NO_OPINION
    store.put(ROLEBINDINGS, bound("b", "viewer", ("Group", "dev"), ("User", "jane"), namespace="x"))
    assert (await rbac.authorize(JANE, request))[0] is Decision.ALLOW
    store.put(CLUSTERROLES, named("viewer", rules=None))
    assert (await rbac.authorize(JANE, request))[0] is Decision.NO_OPINION
    store.put(CLUSTERROLES, named("viewer", rules=rules("get pods")))
    store.drop(ROLEBINDINGS, "x", "b")
    assert (await rbac.authorize(JANE, request))[0] is Decision.NO_OPINION


async def test_a_binding_to_nothing_is_told() -> None:
    store = Store()
    store.put(CLUSTERROLEBINDINGS, bound("b", "gone", ("User", "jane")))
    store.put(ROLEBINDINGS, bound("c", "lost", ("User", "jane"), namespace="x", kind="Role"))
    _, told = await decide(store, JANE, asks("get", "pods", namespace="x"))
    assert told == (
        'RBAC: [clusterrole.rbac.authorization.k8s.io "gone" not found, '
        'role.rbac.authorization.k8s.io "lost" not found]'
    )


async def refusal(chain: Chain, user: User, request: RequestInfo) -> Forbidden:
    try:
        await chain.require(user, request)
    except Forbidden as exc:
        return exc
    raise AssertionError("not refused")


async def test_refusals_read_like_upstreams() -> None:
    chain = build(of_modes(["Node", "RBAC"]), Store())
    for request, message, details in [
        (
            asks("list", "pods", namespace="x"),
            'pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "x"',
            {"kind": "pods"},
        ),
        (
            asks("patch", "deployments/scale", "apps", "x", name="d"),
            'deployments.apps "d" is forbidden: User "jane" cannot patch resource "deployments/scale" '
            'in API group "apps" in the namespace "x"',
            {"name": "d", "group": "apps", "kind": "deployments"},
        ),
        (
            asks("delete", "nodes", name="n"),
            'nodes "n" is forbidden: User "jane" cannot delete resource "nodes" in API group "" at the cluster scope',
            {"name": "n", "kind": "nodes"},
        ),
        (RequestInfo("get", "/metrics"), 'forbidden: User "jane" cannot get path "/metrics"', {}),
    ]:
        refused = await refusal(chain, JANE, request)
        assert refused.message == message
        assert refused.to_status()["details"] == details


async def test_masters_may_everything_whatever_the_modes() -> None:
    chain = build(of_modes(["AlwaysDeny"]), Store())
    master = User("x", groups=("system:masters",))
    assert await chain.authorize(master, asks("delete", "nodes")) == (Decision.ALLOW, "")
    refused = await refusal(chain, JANE, asks("get", "pods"))
    assert refused.message.endswith("at the cluster scope: Everything is forbidden.")


async def test_a_decision_that_is_remembered_costs_little() -> None:
    """Ten thousand decisions must not take a second: a request has a budget of about a tenth of a millisecond."""
    import time

    store = store_with_viewer()
    for number in range(200):
        store.put(CLUSTERROLEBINDINGS, bound(f"b{number}", "viewer", ("User", f"u{number}")))
    rbac = RBACAuthorizer(store)
    user = User("u150", groups=("a", "b", "system:authenticated"))
    request = asks("list", "pods", namespace="x")
    started = time.process_time()
    for _ in range(10_000):
        await rbac.authorize(user, request)
    assert time.process_time() - started < 1.0
