"""The garbage collector's graph: what changes make worth looking at."""

from __future__ import annotations

from controller_objects import ago

from controlplane.controllers.garbage.graph import Graph
from machinery.api.catalogue import DEPLOYMENTS, PODS, REPLICASETS
from machinery.api.meta import Object


def thing(name: str, *owners: Object, deleting: bool = False, finalizers: tuple[str, ...] = ()) -> Object:
    metadata: Object = {"name": name, "namespace": "ns", "uid": f"u-{name}"}
    if owners:
        metadata["ownerReferences"] = list(owners)
    if deleting:
        metadata["deletionTimestamp"] = ago(1)
    if finalizers:
        metadata["finalizers"] = list(finalizers)
    return {"metadata": metadata}


def ref(name: str, kind: str = "ReplicaSet", *, block: bool = False) -> Object:
    made: Object = {"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": f"u-{name}"}
    return made | {"blockOwnerDeletion": True} if block else made


def test_dependants_are_looked_at_when_their_owner_goes() -> None:
    graph = Graph()
    assert graph.observe(REPLICASETS, thing("rs")).delete == []
    assert graph.observe(PODS, thing("a", ref("rs"))).delete == []
    graph.observe(PODS, thing("b", ref("rs")))
    assert sorted(graph.remove("u-rs").delete) == ["u-a", "u-b"]
    assert "u-rs" in graph.absent
    graph.remove("u-a")
    graph.remove("u-b")
    assert len(graph) == 0


def test_a_dependant_seen_before_its_owner_is_looked_at_and_settles() -> None:
    graph = Graph()
    assert graph.observe(PODS, thing("a", ref("rs"))).delete == ["u-a"]
    node = graph.get("u-a")
    assert node is not None
    assert not graph.is_settled(node)
    assert graph.observe(REPLICASETS, thing("rs")).delete == []
    assert graph.is_settled(node)


def test_a_reference_that_lies_about_its_owner_never_settles() -> None:
    graph = Graph()
    graph.observe(DEPLOYMENTS, thing("rs"))  # the uid is a Deployment's, the reference says ReplicaSet
    assert graph.observe(PODS, thing("a", ref("rs"))).delete == ["u-a"]
    node = graph.get("u-a")
    assert node is not None
    assert not graph.is_settled(node)


def test_foreground_deletion_looks_at_dependants_then_at_the_owner() -> None:
    graph = Graph()
    graph.observe(REPLICASETS, thing("rs"))
    graph.observe(PODS, thing("a", ref("rs", block=True)))
    graph.observe(PODS, thing("b", ref("rs")))
    work = graph.observe(REPLICASETS, thing("rs", deleting=True, finalizers=("foregroundDeletion",)))
    assert sorted(work.delete) == ["u-a", "u-b", "u-rs"]
    owner = graph.get("u-rs")
    assert owner is not None
    assert [n.identity.name for n in owner.blocking_dependants()] == ["a"]
    assert graph.remove("u-a").delete == ["u-rs"]
    assert owner.blocking_dependants() == []


def test_a_reference_that_stops_blocking_wakes_the_owner() -> None:
    graph = Graph()
    graph.observe(REPLICASETS, thing("rs", deleting=True, finalizers=("foregroundDeletion",)))
    graph.observe(PODS, thing("a", ref("rs", block=True)))
    assert "u-rs" in graph.observe(PODS, thing("a", ref("rs"))).delete


def test_orphaning_is_asked_for_once() -> None:
    graph = Graph()
    graph.observe(REPLICASETS, thing("rs"))
    going = thing("rs", deleting=True, finalizers=("orphan",))
    assert graph.observe(REPLICASETS, going).orphan == ["u-rs"]
    assert graph.observe(REPLICASETS, going).orphan == []


def test_a_new_owner_is_looked_into() -> None:
    graph = Graph()
    graph.observe(REPLICASETS, thing("one"))
    graph.observe(PODS, thing("a", ref("one")))
    assert graph.observe(PODS, thing("a", ref("two"))).delete.count("u-a") >= 1
    owner = graph.get("u-one")
    assert owner is not None
    assert owner.dependants == {}


def test_a_circle_can_be_taken_apart() -> None:
    graph = Graph()
    graph.observe(PODS, thing("a", ref("b", "Pod", block=True)))
    graph.observe(PODS, thing("b", ref("a", "Pod", block=True)))
    graph.remove("u-a")
    graph.remove("u-b")
    assert len(graph) == 0
