"""The filters over all nodes at once say of every node what plain code that looks at one node says."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from test_scheduler_plugins import Cluster, node, pod

Object = dict[str, Any]

ZONES = ["x", "y", None]
APPS = ["web", "db"]
KEYS = ["zone", "kubernetes.io/hostname"]


# -- plain code -------------------------------------------------------------------------------------------------------


def labels(obj: Object) -> dict[str, str]:
    found: dict[str, str] = obj["metadata"].get("labels") or {}
    return found


def matches(selector: Object, obj: Object) -> bool:
    return all(labels(obj).get(key) == value for key, value in selector.get("matchLabels", {}).items())


def cpu(obj: Object) -> int:
    return int(obj["spec"]["containers"][0]["resources"]["requests"]["cpu"].removesuffix("m"))


def fits(p: Object, target: Object, there: list[Object]) -> bool:
    room = int(target["status"]["allocatable"]["cpu"]) * 1000
    return sum(map(cpu, there)) + cpu(p) <= room and len(there) < int(target["status"]["allocatable"]["pods"])


def tolerated(p: Object, target: Object) -> bool:
    keys = {t["key"] for t in p["spec"].get("tolerations", [])}
    return all(t["key"] in keys or t["effect"] == "PreferNoSchedule" for t in target["spec"].get("taints", []))


def chosen(p: Object, target: Object) -> bool:
    return all(labels(target).get(key) == value for key, value in p["spec"].get("nodeSelector", {}).items())


def ports(p: Object) -> set[tuple[str, int]]:
    given = p["spec"]["containers"][0].get("ports", [])
    return {(port.get("hostIP") or "0.0.0.0", port["hostPort"]) for port in given}


def free(p: Object, there: list[Object]) -> bool:
    return not any(
        number == other and (ip == taken or "0.0.0.0" in (ip, taken))
        for each in there
        for taken, other in ports(each)
        for ip, number in ports(p)
    )


def domain(key: str, target: Object, world: dict[str, tuple[Object, list[Object]]]) -> list[Object]:
    """The pods on nodes of the target's domain."""
    value = labels(target).get(key)
    return [each for other, pods in world.values() if labels(other).get(key) == value for each in pods]


def terms(p: Object, kind: str) -> list[Object]:
    required = p["spec"].get("affinity", {}).get(kind, {}).get("requiredDuringSchedulingIgnoredDuringExecution", [])
    return list(required)


def company(p: Object, target: Object, world: dict[str, tuple[Object, list[Object]]]) -> bool:
    for term in terms(p, "podAntiAffinity"):
        key = term["topologyKey"]
        if key in labels(target) and any(matches(term["labelSelector"], o) for o in domain(key, target, world)):
            return False
    for other, pods in world.values():
        for each in pods:
            for term in terms(each, "podAntiAffinity"):
                value = labels(other).get(term["topologyKey"])
                here = value is not None and labels(target).get(term["topologyKey"]) == value
                if here and matches(term["labelSelector"], p):
                    return False
    wanted = terms(p, "podAffinity")
    if any(term["topologyKey"] not in labels(target) for term in wanted):
        return False

    def all_terms(obj: Object) -> bool:
        return all(matches(term["labelSelector"], obj) for term in wanted)

    near = all(any(all_terms(o) for o in domain(term["topologyKey"], target, world)) for term in wanted)
    somewhere = any(
        all_terms(each) and any(term["topologyKey"] in labels(other) for term in wanted)
        for other, pods in world.values()
        for each in pods
    )
    return near or (not somewhere and all_terms(p))


def spread(p: Object, target: Object, world: dict[str, tuple[Object, list[Object]]]) -> bool:
    constraints = p["spec"].get("topologySpreadConstraints", [])
    keys = [constraint["topologyKey"] for constraint in constraints]
    if any(key not in labels(target) for key in keys):
        return False
    counted = [o for o, _ in world.values() if all(key in labels(o) for key in keys) and chosen(p, o)]
    for constraint in constraints:
        key = constraint["topologyKey"]
        counts: dict[str, int] = {labels(other)[key]: 0 for other in counted}
        for other in counted:
            pods = world[other["metadata"]["name"]][1]
            counts[labels(other)[key]] += sum(matches(constraint["labelSelector"], each) for each in pods)
        if not counts:
            continue
        fewest = 0 if len(counts) < constraint.get("minDomains", 1) else min(counts.values())
        here = counts.get(labels(target)[key], 0)
        if here + matches(constraint["labelSelector"], p) - fewest > constraint["maxSkew"]:
            return False
    return True


def where(p: Object, world: dict[str, tuple[Object, list[Object]]]) -> set[str]:
    return {
        name
        for name, (target, there) in world.items()
        if not target["spec"].get("unschedulable")
        and tolerated(p, target)
        and chosen(p, target)
        and free(p, there)
        and fits(p, target, there)
        and spread(p, target, world)
        and company(p, target, world)
    }


# -- random clusters --------------------------------------------------------------------------------------------------


@st.composite
def nodes(draw: st.DrawFn, index: int) -> Object:
    zone = draw(st.sampled_from(ZONES))
    made = node(f"n{index}", cpu=draw(st.sampled_from(["1", "2", "4"])), labels={"zone": zone} if zone else {})
    made["spec"]["unschedulable"] = draw(st.integers(0, 9)) == 0
    effects = draw(st.lists(st.sampled_from(["NoSchedule", "PreferNoSchedule"]), max_size=1))
    made["spec"]["taints"] = [{"key": "k", "effect": effect} for effect in effects]
    made["status"]["allocatable"]["pods"] = "4"
    return made


@st.composite
def pods(draw: st.DrawFn, name: str) -> Object:
    app = draw(st.sampled_from(APPS))
    made = pod(name, cpu=draw(st.sampled_from(["100m", "500m", "1500m"])), labels={"app": app})
    spec = made["spec"]
    selector = {"matchLabels": {"app": draw(st.sampled_from(APPS))}}
    key = draw(st.sampled_from(KEYS))
    term = [{"labelSelector": selector, "topologyKey": key}]
    match draw(st.integers(0, 6)):
        case 0:
            spec["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}
        case 1:
            more = [*term, {"labelSelector": {"matchLabels": {}}, "topologyKey": draw(st.sampled_from(KEYS))}]
            spec["affinity"] = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": more}}
        case 2:
            spec["topologySpreadConstraints"] = [
                {
                    "maxSkew": draw(st.integers(1, 2)),
                    "topologyKey": key,
                    "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": selector,
                    "minDomains": draw(st.integers(1, 3)),
                }
            ]
        case 3:
            ip = draw(st.sampled_from(["", "127.0.0.1"]))
            spec["containers"][0]["ports"] = [{"containerPort": 80, "hostPort": 80, "hostIP": ip}]
        case 4:
            spec["nodeSelector"] = {"zone": draw(st.sampled_from(["x", "y"]))}
    if draw(st.booleans()):
        spec["tolerations"] = [{"key": "k", "operator": "Exists"}]
    return made


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Object], list[tuple[Object, int, bool]]]:
    """Nodes, and pods with where each is put, and whether it goes again at the end."""
    made = [draw(nodes(i)) for i in range(draw(st.integers(1, 6)))]
    count = draw(st.integers(0, 12))
    placed = [(draw(pods(f"p{i}")), draw(st.integers(0, len(made) - 1)), draw(st.booleans())) for i in range(count)]
    return made, placed


@settings(max_examples=200, deadline=None)
@given(histories(), st.lists(pods("new"), min_size=1, max_size=3))
def test_all_at_once_is_one_by_one(
    history: tuple[list[Object], list[tuple[Object, int, bool]]], new: list[Object]
) -> None:
    made, placed = history
    cluster = Cluster(*made)
    world: dict[str, tuple[Object, list[Object]]] = {each["metadata"]["name"]: (each, []) for each in made}
    for each, index, _ in placed:
        cluster.put(each, f"n{index}")
        world[f"n{index}"][1].append(each)
        for p in new:  # asked in between: what is remembered must be kept up to date
            assert cluster.where(p) == where(p, world)
    for each, index, goes in placed:
        if goes:
            cluster.nodes.forget(f"default/{each['metadata']['name']}")
            world[f"n{index}"][1].remove(each)
    for p in new:
        assert cluster.where(p) == where(p, world)
