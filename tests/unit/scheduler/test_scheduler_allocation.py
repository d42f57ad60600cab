"""Which devices a claim gets: selectors, counts, alternatives, constraints, taints, shared counters."""

from typing import Any

import pytest

from controlplane.scheduler.dynamic.allocator import Search, SearchGivenUp
from controlplane.scheduler.dynamic.inventory import InUse, Inventory
from controlplane.scheduler.dynamic.requests import AllocationFailed, need
from controlplane.scheduler.dynamic.results import allocation

Object = dict[str, Any]
DRIVER = "gpu.example.com"


def device(name: str, model: str = "small", **more: Any) -> Object:
    return {
        "name": name,
        "attributes": {
            "model": {"string": model},
            "index": {"int": 3},
            "version": {"version": "1.10.0"},
            "numa.example.com/node": {"int": int(name[-1]) % 2},
        },
        "capacity": {"memory": {"value": "8Gi"}},
        **more,
    }


def pool_slice(*devices: Object, pool: str = "p", generation: int = 1, count: int = 1, **more: Any) -> Object:
    described = {"name": pool, "generation": generation, "resourceSliceCount": count}
    spec = {"driver": DRIVER, "nodeName": "a", "pool": described, "devices": list(devices), **more}
    return {"metadata": {"name": f"{pool}-{generation}-{len(devices)}"}, "spec": spec}


CLASSES: dict[str, Object] = {
    "gpu": {
        "metadata": {"name": "gpu"},
        "spec": {
            "selectors": [{"cel": {"expression": f'device.driver == "{DRIVER}"'}}],
            "config": [{"opaque": {"driver": DRIVER, "parameters": {"a": 1}}}],
        },
    }
}


def exactly(name: str = "r", **more: Any) -> Object:
    return {"name": name, "exactly": {"deviceClassName": "gpu", **more}}


def claim(*requests: Object, constraints: list[Object] | None = None, **more: Any) -> Object:
    devices = {"requests": list(requests), "constraints": constraints or [], **more}
    return {"metadata": {"name": "c", "namespace": "d"}, "spec": {"devices": devices}}


def chosen(slices: list[Object], *claims: Object, held: tuple[str, ...] = ()) -> list[list[tuple[str, str]]] | None:
    """For each claim (request, device) pairs; None if they can't be had together."""
    inventory = Inventory.of(slices)
    results = [{"driver": DRIVER, "pool": "p", "device": name} for name in held]
    in_use = InUse.of(inventory, [{"devices": {"results": results}}])
    needs = [need(each, CLASSES) for each in claims]
    found = Search(inventory.devices, in_use, inventory.troubles).run(needs)
    return None if found is None else [[(pick.request.name, pick.device.id[2]) for pick in each] for each in found]


def choosing(expression: str) -> Object:
    return {"selectors": [{"cel": {"expression": expression}}]}


THREE = pool_slice(device("g1"), device("g2", "large"), device("g3", "large"))


LARGE = choosing(f'device.attributes["{DRIVER}"].model == "large"')


@pytest.mark.parametrize(
    ("requests", "held", "expected"),
    [
        ([exactly()], (), [("r", "g1")]),
        ([exactly()], ("g1",), [("r", "g2")]),
        ([exactly(**LARGE)], (), [("r", "g2")]),
        ([exactly(count=2, **LARGE)], (), [("r", "g2"), ("r", "g3")]),
        ([exactly(count=2, **LARGE)], ("g3",), None),
        ([exactly(allocationMode="All", **LARGE)], (), [("r", "g2"), ("r", "g3")]),
        ([exactly(allocationMode="All", **LARGE)], ("g2",), None),
        ([exactly(adminAccess=True, **LARGE)], ("g2", "g3"), [("r", "g2")]),
        ([exactly("a"), exactly("b", **LARGE)], (), [("a", "g1"), ("b", "g2")]),
        # The first choice of one request must not be in the way of the other.
        ([exactly("a", count=2), exactly("b", **LARGE)], (), [("a", "g1"), ("a", "g2"), ("b", "g3")]),
        ([exactly("a", count=3), exactly("b", **LARGE)], (), None),
    ],
)
def test_requests(requests: list[Object], held: tuple[str, ...], expected: list[tuple[str, str]] | None) -> None:
    found = chosen([THREE], claim(*requests), held=held)
    assert found == (None if expected is None else [expected])


def test_alternatives_are_taken_in_their_order() -> None:
    given = {
        "name": "r",
        "firstAvailable": [
            {"name": "two", "deviceClassName": "gpu", "count": 2, **LARGE},
            {"name": "one", "deviceClassName": "gpu", "count": 1},
        ],
    }
    assert chosen([THREE], claim(given)) == [[("r/two", "g2"), ("r/two", "g3")]]
    assert chosen([THREE], claim(given), held=("g2",)) == [[("r/one", "g1")]]


def test_constraints_over_requests() -> None:
    slices = [pool_slice(*(device(f"g{i}") for i in range(1, 5)))]
    same = [{"matchAttribute": "numa.example.com/node"}]
    assert chosen(slices, claim(exactly(count=2), constraints=same)) == [[("r", "g1"), ("r", "g3")]]
    assert chosen(slices, claim(exactly(count=3), constraints=same)) is None
    different = [{"distinctAttribute": "numa.example.com/node", "requests": ["r"]}]
    assert chosen(slices, claim(exactly(count=2), constraints=different)) == [[("r", "g1"), ("r", "g2")]]
    unknown = [{"matchAttribute": "numa.example.com/none"}]
    assert chosen(slices, claim(exactly(), constraints=unknown)) is None


def test_claims_of_a_pod_do_not_share_devices() -> None:
    assert chosen([THREE], claim(exactly(count=2)), claim(exactly())) == [[("r", "g1"), ("r", "g2")], [("r", "g3")]]
    assert chosen([THREE], claim(exactly(count=2)), claim(exactly(count=2))) is None


def test_tainted_devices_need_a_toleration() -> None:
    taint = {"key": "broken", "value": "yes", "effect": "NoSchedule"}
    slices = [pool_slice(device("g1", taints=[taint]))]
    assert chosen(slices, claim(exactly())) is None
    tolerant = exactly(tolerations=[{"key": "broken", "operator": "Exists"}])
    assert chosen(slices, claim(tolerant)) == [[("r", "g1")]]


def test_partitions_share_counters() -> None:
    def part(name: str, amount: str) -> Object:
        return device(name, consumesCounters=[{"counterSet": "whole", "counters": {"memory": {"value": amount}}}])

    shared = [{"name": "whole", "counters": {"memory": {"value": "10Gi"}}}]
    slices = [pool_slice(part("g1", "6Gi"), part("g2", "6Gi"), part("g3", "4Gi"), sharedCounters=shared)]
    assert chosen(slices, claim(exactly(count=2))) == [[("r", "g1"), ("r", "g3")]]
    assert chosen(slices, claim(exactly()), held=("g1",)) == [[("r", "g3")]]


def test_only_whole_pools_of_the_newest_generation_count() -> None:
    old, new = pool_slice(device("g1")), pool_slice(device("g2"), generation=2)
    assert chosen([old, new], claim(exactly())) == [[("r", "g2")]]
    assert chosen([old, pool_slice(device("g2"), generation=2, count=2)], claim(exactly())) is None


def test_all_devices_are_not_told_from_a_pool_that_is_being_updated() -> None:
    half = pool_slice(device("h1"), pool="half", count=2)
    inventory = Inventory.of([THREE, half])
    assert [(each.pool, each.invalid) for each in inventory.troubles] == [("half", False)]
    in_use = InUse.of(inventory, [])
    search = Search(inventory.devices, in_use, inventory.troubles)
    assert search.run([need(claim(exactly()), CLASSES)]) is not None
    with pytest.raises(AllocationFailed) as raised:
        search.run([need(claim(exactly(allocationMode="All")), CLASSES)])
    why = f"asks for all devices, but resource pool {DRIVER}/half is currently being updated"
    assert str(raised.value) == f"claim d/c, request r: {why}"


def test_an_administrator_has_no_device_twice_in_a_claim() -> None:
    both = claim(exactly("a", adminAccess=True, **LARGE), exactly("b", adminAccess=True, **LARGE))
    assert chosen([THREE], both, held=("g2",)) == [[("a", "g2"), ("b", "g3")]]


def test_the_result_carries_configuration_and_where_it_can_be_used() -> None:
    wanted = claim(exactly(), config=[{"requests": ["r"], "opaque": {"driver": DRIVER, "parameters": {"b": 2}}}])
    inventory = Inventory.of([THREE])
    found = Search(inventory.devices, InUse.of(inventory, ())).run([need(wanted, CLASSES)])
    assert found is not None
    result = allocation(wanted, found[0], CLASSES, "a")
    assert result["devices"]["config"] == [
        {"source": "FromClass", "requests": ["r"], "opaque": {"driver": DRIVER, "parameters": {"a": 1}}},
        {"source": "FromClaim", "requests": ["r"], "opaque": {"driver": DRIVER, "parameters": {"b": 2}}},
    ]
    field = {"key": "metadata.name", "operator": "In", "values": ["a"]}
    assert result["nodeSelector"] == {"nodeSelectorTerms": [{"matchFields": [field]}]}


def test_a_search_without_end_is_given_up() -> None:
    many = pool_slice(*(device(f"g{i}") for i in range(60)))
    same = [{"matchAttribute": "numa.example.com/node"}]
    with pytest.raises(SearchGivenUp, match="timed out trying to allocate devices"):
        chosen([many], claim(exactly(count=31), constraints=same))


# -- shares -----------------------------------------------------------------------------------------------------------


def shared(name: str, amount: str = "8", **more: Any) -> Object:
    return device(name, allowMultipleAllocations=True, **{"capacity": {"memory": {"value": amount}}, **more})


def share(name: str, amount: str, **more: Any) -> Object:
    taken = {"driver": DRIVER, "pool": "p", "device": name, "shareID": "s", "consumedCapacity": {"memory": amount}}
    return {"devices": {"results": [{**taken, **more}]}}


def taking(name: str = "r", amount: str = "", **more: Any) -> Object:
    return exactly(name, **({"capacity": {"requests": {"memory": amount}}} if amount else {}), **more)


ALL = {"allocationMode": "All"}


@pytest.mark.parametrize(
    ("devices", "given", "claims", "expected"),
    [
        # Shares add up: of one claim, of a pod's claims, and of what others hold.
        (["g1"], [], [claim(taking("a", "4"), taking("b", "4"))], [[("a", "g1"), ("b", "g1")]]),
        (["g1"], [], [claim(taking(amount="4")), claim(taking(amount="4"))], [[("r", "g1")], [("r", "g1")]]),
        (["g1"], [], [claim(taking(amount="4")), claim(taking(amount="5"))], None),
        (["g1"], [share("g1", "3"), share("g1", "2")], [claim(taking(amount="3"))], [[("r", "g1")]]),
        (["g1"], [share("g1", "3"), share("g1", "3")], [claim(taking(amount="3"))], None),
        (["g1", "g2"], [share("g1", "6")], [claim(taking(amount="3"))], [[("r", "g2")]]),
        # Who names no amount wants all of it.
        (["g1"], [share("g1", "1")], [claim(taking())], None),
        # One request has a device once, however much is left.
        (["g1", "g2"], [], [claim(taking(amount="1", count=2))], [[("r", "g1"), ("r", "g2")]]),
        (["g1"], [], [claim(taking(amount="1", count=2))], None),
        # All are those that have room for it at the start.
        (["g1", "g2"], [share("g1", "8")], [claim(taking(amount="1", **ALL))], [[("r", "g2")]]),
        (["g1"], [share("g1", "8")], [claim(taking(amount="1", **ALL))], None),
        (["g1"], [], [claim(taking("a", "5")), claim(taking(amount="5", **ALL))], None),
        # An administrator's share takes nothing of what there is for the others.
        (["g1"], [share("g1", "8", adminAccess=True)], [claim(taking(amount="8"))], [[("r", "g1")]]),
    ],
)
def test_shares(
    devices: list[str], given: list[Object], claims: list[Object], expected: list[list[tuple[str, str]]] | None
) -> None:
    inventory = Inventory.of([pool_slice(*map(shared, devices))])
    found = Search(inventory.devices, InUse.of(inventory, given)).run([need(each, CLASSES) for each in claims])
    assert (None if found is None else [[(p.request.name, p.device.id[2]) for p in each] for each in found]) == expected


def test_a_share_is_written_with_what_it_takes() -> None:
    wanted = claim(taking(amount="3"))
    inventory = Inventory.of([pool_slice(shared("g1"), device("g2"))])
    found = Search(inventory.devices, InUse.of(inventory, ())).run([need(wanted, CLASSES)])
    assert found is not None
    first, second = (allocation(wanted, found[0], CLASSES, "a")["devices"]["results"][0] for _ in range(2))
    assert first["consumedCapacity"] == {"memory": "3"}
    assert first["shareID"] != second["shareID"]


def test_a_device_that_is_not_shared_has_room_for_one_claim() -> None:
    assert chosen([pool_slice(device("g1"))], claim(taking(amount="9Gi"))) is None
    assert chosen([pool_slice(device("g1"))], claim(taking("a", "1Gi")), claim(taking("b", "1Gi"))) is None
    assert chosen([pool_slice(device("g1"))], claim(exactly(capacity={"requests": {"other": "1"}}))) is None


def test_all_shares_of_a_device_take_of_counters_once() -> None:
    def part(name: str, **more: Any) -> Object:
        return device(name, consumesCounters=[{"counterSet": "w", "counters": {"m": {"value": "6"}}}], **more)

    counters = pool_slice(sharedCounters=[{"name": "w", "counters": {"m": {"value": "10"}}}], count=2)
    parts = pool_slice(
        part("g1", allowMultipleAllocations=True, capacity={"memory": {"value": "2"}}), part("g2"), count=2
    )
    both = claim(taking("a", "1"), taking("b", "1"))
    assert chosen([counters, parts], both) == [[("a", "g1"), ("b", "g1")]]
    assert chosen([counters, parts], claim(taking("a", "1"), exactly("b", count=2))) is None


# -- troubles ---------------------------------------------------------------------------------------------------------


def failure(slices: list[Object], *claims: Object) -> str:
    with pytest.raises(AllocationFailed) as raised:
        chosen(slices, *claims)
    return str(raised.value)


def test_what_no_node_can_help_with() -> None:
    differ = [{"matchAttribute": f"{DRIVER}/model"}]
    everything = claim(exactly(allocationMode="All"), constraints=differ)
    why = f"cannot add device {DRIVER}/p/g2 because a claim constraint would not be satisfied"
    assert failure([THREE], everything) == f"claim d/c, request r: {why}"
    why = "number of requested devices 33 exceeds the claim limit of 32"
    assert failure([THREE], claim(exactly("a", count=32), exactly("b"))) == f"claim d/c: {why}"
    broken = choosing(f'device.attributes["{DRIVER}"].none == 1')
    told = failure([THREE], claim(exactly(**broken)))
    assert told.startswith(f"claim d/c: selector #0 on device {DRIVER}/p/g1: CEL runtime error: no such key: none")
    told = failure([THREE], claim(exactly(**choosing("no.such"))))
    assert told.startswith("claim d/c: selector #0: CEL compile error: ")


def test_selectors_are_asked_for_free_devices_only() -> None:
    odd = pool_slice({"name": "g1"}, device("g2", "large"))
    assert "no such key" in failure([odd], claim(exactly(**LARGE)))
    assert chosen([odd], claim(exactly(**LARGE)), held=("g1",)) == [[("r", "g2")]]


def test_all_includes_tainted_devices_and_so_fails() -> None:
    taint = {"key": "broken", "value": "yes", "effect": "NoSchedule"}
    slices = [pool_slice(device("g1"), device("g2", taints=[taint]))]
    assert chosen(slices, claim(exactly(allocationMode="All"))) is None
    assert chosen(slices, claim(exactly())) == [[("r", "g1")]]


def test_a_pool_that_contradicts_itself_is_left_out() -> None:
    twice = pool_slice(device("g1"), device("g1"))
    use = [{"counterSet": "none", "counters": {"m": {"value": "1"}}}]
    lost = pool_slice(device("g1", consumesCounters=use))
    for slices in ([twice], [lost]):
        assert chosen(slices, claim(exactly())) is None
        assert chosen([*slices, pool_slice(device("g2"), pool="q")], claim(exactly())) == [[("r", "g2")]]
        inventory = Inventory.of(slices)
        assert Search(inventory.devices, InUse.of(inventory, ()), inventory.troubles).invalid
        why = f"asks for all devices, but resource pool {DRIVER}/p is currently invalid"
        assert failure(slices, claim(exactly(allocationMode="All"))) == f"claim d/c, request r: {why}"


def test_attributes_are_alike_only_with_their_types() -> None:
    def typed(name: str, **attribute: Any) -> Object:
        return {"name": name, "attributes": {"x.example.com/a": attribute}}

    slices = [pool_slice(typed("g1", int=1), typed("g2", bool=True), typed("g3", string="1"), typed("g4", int=1))]
    same, different = ([{kind: "x.example.com/a"}] for kind in ("matchAttribute", "distinctAttribute"))
    assert chosen(slices, claim(exactly(count=2), constraints=same)) == [[("r", "g1"), ("r", "g4")]]
    names = [("r", "g1"), ("r", "g2"), ("r", "g3")]
    assert chosen(slices, claim(exactly(count=3), constraints=different)) == [names]
    assert chosen(slices, claim(exactly(count=4), constraints=different)) is None


# -- conditions of binding --------------------------------------------------------------------------------------------


def test_pools_whose_devices_need_nobodys_word_come_first() -> None:
    conditions: Object = {
        "bindingConditions": ["Attached"],
        "bindingFailureConditions": ["Broken"],
        "bindsToNode": True,
    }
    anywhere: Object = {"nodeName": None, "allNodes": True}
    slow = pool_slice(device("g1", **conditions), pool="a", **anywhere)
    slices = [slow, pool_slice(device("g2"), pool="b", **anywhere)]
    assert chosen(slices, claim(exactly())) == [[("r", "g2")]]
    wanted = claim(exactly(count=2))
    inventory = Inventory.of(slices)
    found = Search(inventory.devices, InUse.of(inventory, ())).run([need(wanted, CLASSES)])
    assert found is not None
    result = allocation(wanted, found[0], CLASSES, "n")
    assert [each.get("bindingConditions") for each in result["devices"]["results"]] == [None, ["Attached"]]
    assert result["devices"]["results"][1]["bindingFailureConditions"] == ["Broken"]
    field = {"key": "metadata.name", "operator": "In", "values": ["n"]}
    assert result["nodeSelector"] == {"nodeSelectorTerms": [{"matchFields": [field]}]}


def test_the_configuration_of_a_class_is_there_once() -> None:
    wanted = claim(exactly("a"), exactly("b"))
    inventory = Inventory.of([THREE])
    found = Search(inventory.devices, InUse.of(inventory, ())).run([need(wanted, CLASSES)])
    assert found is not None
    assert allocation(wanted, found[0], CLASSES, "a")["devices"]["config"] == [
        {"source": "FromClass", "requests": ["a", "b"], "opaque": {"driver": DRIVER, "parameters": {"a": 1}}}
    ]
