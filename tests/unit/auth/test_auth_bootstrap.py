"""The objects every cluster has: made once, kept true, and left alone where users want that."""

from __future__ import annotations

import asyncio

from auth_store import Api, Store, asks

from controlplane.apiserver.authz.contract import Decision
from controlplane.apiserver.authz.rbac import RBACAuthorizer
from controlplane.apiserver.bootstrap.clusterroles import cluster_role_bindings, cluster_roles
from controlplane.apiserver.bootstrap.reconcile import ensure
from controlplane.apiserver.request import User
from machinery.api.catalogue import (
    CLUSTERROLEBINDINGS,
    CLUSTERROLES,
    FLOWSCHEMAS,
    NAMESPACES,
    PRIORITYCLASSES,
    PRIORITYLEVELCONFIGURATIONS,
    ROLEBINDINGS,
    ROLES,
)
from machinery.api.meta import Object, name_of

AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"


async def started() -> tuple[Store, Api]:
    store = Store()
    api = Api(store)
    await ensure(api)
    return store, api


def role(store: Store, name: str) -> Object:
    obj = store.get(CLUSTERROLES, "", name)
    assert obj is not None
    return obj


async def test_an_empty_store_gets_everything() -> None:
    store, _ = await started()
    counts = {
        NAMESPACES: 4,
        CLUSTERROLES: 70,
        CLUSTERROLEBINDINGS: 51,
        ROLES: 7,
        ROLEBINDINGS: 7,
        FLOWSCHEMAS: 11,
        PRIORITYLEVELCONFIGURATIONS: 8,
        PRIORITYCLASSES: 2,
    }
    assert {resource: len(list(store.list(resource))) for resource in counts} == counts
    for made in (*cluster_roles(), *cluster_role_bindings()):
        assert made["metadata"]["labels"]["kubernetes.io/bootstrapping"] == "rbac-defaults"
        assert made["metadata"]["annotations"] == {AUTOUPDATE: "true"}


async def test_a_second_start_writes_nothing() -> None:
    _, api = await started()
    api.writes = 0
    await ensure(api)
    assert api.writes == 0


async def test_three_servers_may_start_at_once() -> None:
    store = Store()
    servers = [Api(store) for _ in range(3)]
    await asyncio.gather(*(ensure(api) for api in servers))
    assert sum(api.writes for api in servers) == 160


async def test_another_server_may_be_quicker_between_look_and_write() -> None:
    store = Store()
    api = Api(store)
    first = next(iter(cluster_roles()))
    store.before_write += [lambda: None] * 4 + [lambda: store.put(CLUSTERROLES, first)]
    await ensure(api)
    assert role(store, name_of(first))["rules"] == first["rules"]


async def test_what_was_taken_away_comes_back_and_what_was_added_stays() -> None:
    store, api = await started()
    added = {"verbs": ["get"], "apiGroups": ["example.com"], "resources": ["things"]}
    old = role(store, "system:kube-dns")
    store.put(CLUSTERROLES, old | {"rules": [added]})
    bound = store.get(CLUSTERROLEBINDINGS, "", "system:discovery")
    assert bound is not None
    store.put(CLUSTERROLEBINDINGS, bound | {"subjects": [{"kind": "User", "name": "jane"}]})
    await ensure(api)
    assert role(store, "system:kube-dns")["rules"] == [added, *old["rules"]]
    subjects = store.get(CLUSTERROLEBINDINGS, "", "system:discovery")
    assert subjects is not None
    assert [s["name"] for s in subjects["subjects"]] == ["jane", "system:authenticated"]


async def test_autoupdate_false_is_respected() -> None:
    store, api = await started()
    own = role(store, "system:kube-dns")
    own = own | {"rules": [], "metadata": own["metadata"] | {"annotations": {AUTOUPDATE: "false"}}}
    store.put(CLUSTERROLES, own)
    await ensure(api)
    assert role(store, "system:kube-dns")["rules"] == []


async def test_a_binding_to_another_role_is_made_anew() -> None:
    store, api = await started()
    bound = store.get(CLUSTERROLEBINDINGS, "", "system:kube-dns")
    assert bound is not None
    store.put(CLUSTERROLEBINDINGS, bound | {"roleRef": {**bound["roleRef"], "name": "cluster-admin"}})
    await ensure(api)
    again = store.get(CLUSTERROLEBINDINGS, "", "system:kube-dns")
    assert again is not None
    assert again["roleRef"]["name"] == "system:kube-dns"
    assert again["metadata"]["uid"] != bound["metadata"]["uid"]


async def test_aggregated_roles_keep_what_was_gathered() -> None:
    store, api = await started()
    gathered = [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]
    store.put(CLUSTERROLES, role(store, "view") | {"rules": gathered})
    await ensure(api)
    assert role(store, "view")["rules"] == gathered


async def test_flow_control_is_the_users_once_he_says_so_but_for_the_mandatory() -> None:
    store, api = await started()
    for name, annotation in (("workload-low", "false"), ("exempt", "false"), ("system", "true")):
        level = store.get(PRIORITYLEVELCONFIGURATIONS, "", name)
        assert level is not None
        metadata = level["metadata"] | {"annotations": {"apf.kubernetes.io/autoupdate-spec": annotation}}
        store.put(PRIORITYLEVELCONFIGURATIONS, level | {"metadata": metadata, "spec": {"type": "mine"}})
    await ensure(api)
    specs = {name_of(level): level["spec"]["type"] for level in store.list(PRIORITYLEVELCONFIGURATIONS)}
    assert (specs["workload-low"], specs["exempt"], specs["system"]) == ("mine", "Exempt", "Limited")


async def test_the_controllers_may_do_their_work() -> None:
    store, _ = await started()
    rbac = RBACAuthorizer(store)
    for account, verb, resource, group in [
        ("deployment-controller", "create", "replicasets", "apps"),
        ("replicaset-controller", "create", "pods", ""),
        ("generic-garbage-collector", "delete", "things", "example.com"),
    ]:
        user = User(f"system:serviceaccount:kube-system:{account}", groups=("system:serviceaccounts",))
        assert (await rbac.authorize(user, asks(verb, resource, group, "x")))[0] is Decision.ALLOW
        assert (await rbac.authorize(user, asks("impersonate", "users")))[0] is Decision.NO_OPINION
    scheduler = User("system:kube-scheduler", groups=("system:authenticated",))
    assert (await rbac.authorize(scheduler, asks("create", "pods/binding", namespace="x")))[0] is Decision.ALLOW
