"""Server-side apply, and who owns what after every kind of write."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from machinery.api import schema
from machinery.api.patch import apply as ssa
from machinery.api.patch import managers, reset, scale, typed
from machinery.api.schema_types import Type
from machinery.errors import BadRequest, Conflict, StatusError

SCHEMAS = schema.load()
NOW, LATER = "2024-01-01T00:00:00Z", "2024-01-01T00:00:10Z"


def kind(group: str, name: str, version: str = "v1") -> schema.KindSchema:
    found = SCHEMAS.of(group, version, name)
    assert found is not None
    return found


CONFIG_MAPS, PODS, DEPLOYMENTS = kind("", "ConfigMap"), kind("", "Pod"), kind("apps", "Deployment")


def apply(live: Any, applied: Any, manager: str, schema_: schema.KindSchema = CONFIG_MAPS, **options: Any) -> Any:
    options = {"api_version": schema_.api_version, "now": NOW} | options
    applied = {"apiVersion": schema_.api_version, "kind": schema_.kind} | applied
    return ssa.apply(live, applied, manager, schema_, **options)


def update(old: Any, new: Any, manager: str, schema_: schema.KindSchema = CONFIG_MAPS, **options: Any) -> Any:
    options = {"api_version": schema_.api_version, "now": NOW} | options
    return ssa.update_managers(old, new, manager, kind_schema=schema_, **options)


def owned(obj: Any) -> dict[str, Any]:
    return {f"{e['manager']} {e['operation']}": e["fieldsV1"] for e in obj["metadata"].get("managedFields", ())}


def config_map(**data: str) -> dict[str, Any]:
    return {"metadata": {"name": "c"}, "data": data}


def test_appliers_own_what_they_apply_and_take_nothing_else() -> None:
    one = apply(None, config_map(a="1", b="1"), "mgr-a")
    assert one["data"] == {"a": "1", "b": "1"}
    assert one["metadata"]["managedFields"] == [
        {
            "manager": "mgr-a",
            "operation": "Apply",
            "apiVersion": "v1",
            "time": NOW,
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:data": {"f:a": {}, "f:b": {}}},
        }
    ]
    two = apply(one, config_map(c="1"), "mgr-b")
    assert two["data"] == {"a": "1", "b": "1", "c": "1"}
    assert owned(two) == {
        "mgr-a Apply": {"f:data": {"f:a": {}, "f:b": {}}},
        "mgr-b Apply": {"f:data": {"f:c": {}}},
    }


def test_a_conflict_names_manager_and_field_and_force_takes_the_field() -> None:
    live = apply(None, config_map(a="1", b="1"), "mgr-a")
    with pytest.raises(Conflict) as caught:
        apply(live, config_map(a="2"), "mgr-b")
    assert caught.value.message == 'Apply failed with 1 conflict: conflict with "mgr-a": .data.a'
    assert caught.value.details == {
        "causes": [{"reason": "FieldManagerConflict", "message": 'conflict with "mgr-a"', "field": ".data.a"}]
    }
    forced = apply(live, config_map(a="2"), "mgr-b", force=True)
    assert forced["data"] == {"a": "2", "b": "1"}
    assert owned(forced) == {"mgr-a Apply": {"f:data": {"f:b": {}}}, "mgr-b Apply": {"f:data": {"f:a": {}}}}


def test_what_is_applied_no_longer_goes_unless_others_own_it() -> None:
    live = apply(apply(None, config_map(a="1", b="1"), "mgr-a"), config_map(b="1"), "mgr-b")
    after = apply(live, config_map(), "mgr-a")
    assert after["data"] == {"b": "1"}
    assert owned(after) == {"mgr-a Apply": {"f:data": {}}, "mgr-b Apply": {"f:data": {"f:b": {}}}}


def test_applying_the_same_again_changes_nothing_not_even_the_time() -> None:
    live = apply(None, config_map(a="1"), "mgr-a")
    assert apply(live, config_map(a="1"), "mgr-a", now=LATER) == live


def test_items_of_lists_are_owned_by_their_keys() -> None:
    def containers(*items: Any) -> Any:
        return {"metadata": {"name": "d"}, "spec": {"template": {"spec": {"containers": list(items)}}}}

    live = apply(
        None,
        containers(
            {"name": "a", "image": "a:1", "ports": [{"containerPort": 80}], "env": [{"name": "X", "value": "1"}]}
        ),
        "mgr-a",
        DEPLOYMENTS,
    )
    live = apply(live, containers({"name": "b", "image": "b:1"}), "mgr-b", DEPLOYMENTS)
    assert [c["name"] for c in live["spec"]["template"]["spec"]["containers"]] == ["a", "b"]
    fields = owned(live)["mgr-a Apply"]["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"a"}']
    assert fields["f:ports"] == {'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}}
    with pytest.raises(Conflict) as caught:
        apply(
            live, containers({"name": "a", "image": "a:2", "env": [{"name": "X", "value": "2"}]}), "mgr-b", DEPLOYMENTS
        )
    assert caught.value.message == (
        'Apply failed with 2 conflicts: conflicts with "mgr-a":\n'
        '- .spec.template.spec.containers[name="a"].image\n'
        '- .spec.template.spec.containers[name="a"].env[name="X"].value'
    )
    udp = {"containerPort": 80, "protocol": "UDP", "name": "u"}
    both = apply(live, containers({"name": "a", "ports": [udp]}), "mgr-b", DEPLOYMENTS)
    (only,) = both["spec"]["template"]["spec"]["containers"]
    assert [p.get("protocol") for p in only["ports"]] == [None, "UDP"]
    assert "env" in only


def test_applied_items_come_in_the_order_in_which_they_are_applied() -> None:
    def finalizers(*names: str) -> Any:
        return {"metadata": {"name": "c", "finalizers": list(names)}}

    live = {"metadata": {"name": "c", "uid": "u", "finalizers": ["x/a", "x/b", "x/c"]}}
    made = apply(live, finalizers("x/c", "x/new", "x/a"), "m")
    assert made["metadata"]["finalizers"] == ["x/b", "x/c", "x/new", "x/a"]
    assert owned(made)["m Apply"]["f:metadata"]["f:finalizers"] == {
        'v:"x/a"': {},
        'v:"x/c"': {},
        'v:"x/new"': {},
    }


def test_fields_of_an_object_never_tracked_belong_to_whoever_was_before() -> None:
    live = config_map(a="1") | {"metadata": {"name": "c", "uid": "u"}}
    with pytest.raises(Conflict, match=r'conflict with "before-first-apply" using v1: \.data\.a$'):
        apply(live, config_map(a="2"), "mgr-a")
    made = apply(live, config_map(b="2"), "mgr-a")
    assert owned(made)["before-first-apply Update"] == {"f:data": {".": {}, "f:a": {}}}


def test_kubectl_takes_over_what_its_client_side_apply_set() -> None:
    last = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"},"data":{"a":"1"}}'
    live = config_map(a="1", b="1") | {
        "metadata": {"name": "c", "uid": "u", "annotations": {ssa.LAST_APPLIED: last}},
    }
    live["metadata"]["managedFields"] = update(None, live, "kubectl-client-side-apply")
    with pytest.raises(Conflict):
        apply(live, config_map(b="2"), "kubectl")
    made = apply(live, config_map(a="2"), "kubectl")
    assert made["data"] == {"a": "2", "b": "1"}
    assert made["metadata"]["annotations"][ssa.LAST_APPLIED] == (
        '{"apiVersion":"v1","data":{"a":"2"},"kind":"ConfigMap","metadata":{"name":"c"}}'
    )


@pytest.mark.parametrize(
    ("applied", "message"),
    [
        ({"kind": "Secret"}, "invalid object type: /v1, Kind=Secret"),
        ({"apiVersion": ""}, "invalid object type: /, Kind=ConfigMap"),
        ({"metadata": {"name": "c", "managedFields": []}}, "metadata.managedFields must be nil"),
    ],
)
def test_a_configuration_of_the_wrong_kind_is_refused(applied: Any, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        apply(None, config_map() | applied, "m")
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"bogus": 1}, ".spec.bogus: field not declared in schema"),
        ({"containers": "x"}, ".spec.containers: expected list, got &{x}"),
        ({"containers": [{"name": "a"}, {"name": "a"}]}, '.spec.containers: duplicate entries for key [name="a"]'),
        ({"containers": [None]}, ".spec.containers: element 0: associative list with keys may not have a null element"),
        ({"containers": [5]}, ".spec.containers: element 0: associative list with keys may not have non-map elements"),
        (
            {"hostNetwork": "x", "nodeName": 5, "priority": "1"},
            "errors:\n"
            "  .spec.hostNetwork: expected boolean, got &{x}\n"
            "  .spec.nodeName: expected string, got &value.valueUnstructured{Value:5}\n"
            "  .spec.priority: expected numeric (int or float), got string",
        ),
    ],
)
def test_a_configuration_that_does_not_fit_the_schema_is_refused(spec: Any, message: str) -> None:
    with pytest.raises(StatusError) as caught:
        apply(None, {"metadata": {"name": "p"}, "spec": spec}, "m", PODS)
    assert (caught.value.code, caught.value.reason) == (500, "")
    assert caught.value.message == f"failed to create typed patch object (/p; /v1, Kind=Pod): {message}"


def test_a_create_owns_everything_that_was_set_but_identity() -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "n", "labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}], "nodeSelector": {"x": "y"}},
    }
    entries = update(None, PODS.decode(pod).object, "kubectl", PODS)
    assert owned({"metadata": {"managedFields": entries}}) == {
        "kubectl Update": {
            "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
            "f:spec": {
                "f:containers": {'k:{"name":"c"}': {".": {}, "f:image": {}, "f:name": {}, "f:resources": {}}},
                "f:nodeSelector": {},
            },
        }
    }


def test_an_update_takes_what_it_changes_and_what_is_gone_is_nobodys() -> None:
    one = config_map(a="1")
    one["metadata"] |= {"uid": "u", "managedFields": update(None, one, "one")}
    two = config_map(a="2", b="2")
    two["metadata"] |= {"uid": "u", "managedFields": update(one, two, "two", now=LATER)}
    assert owned(two) == {"one Update": {"f:data": {}}, "two Update": {"f:data": {"f:a": {}, "f:b": {}}}}
    three = config_map(b="2")
    entries = update(two, three, "three", now=LATER)
    assert [(e["manager"], e["fieldsV1"], e["time"]) for e in entries] == [
        ("one", {"f:data": {}}, NOW),
        ("two", {"f:data": {"f:b": {}}}, LATER),
    ]
    assert update(two, two, "four", now=LATER) == two["metadata"]["managedFields"]


def test_each_endpoint_owns_only_what_it_may_write() -> None:
    old = {"metadata": {"name": "p", "uid": "u"}, "spec": {"nodeName": "a"}, "status": {"phase": "Pending"}}
    old["metadata"]["managedFields"] = update(None, {"metadata": {}, "spec": {"nodeName": "a"}}, "kcm", PODS)
    new: Any = copy.deepcopy(old)
    new["spec"]["nodeName"] = "b"
    new["status"]["phase"] = "Running"
    entries = update(old, new, "kubelet", PODS, subresource="status", now=LATER)
    assert [(e["manager"], e.get("subresource"), e["fieldsV1"]) for e in entries] == [
        ("kcm", None, {"f:spec": {"f:nodeName": {}}}),
        ("kubelet", "status", {"f:status": {"f:phase": {}}}),
    ]
    assert reset.fields("apps", "Deployment", "status", has_status=True) == {
        "f:spec": {},
        "f:metadata": {"f:labels": {}},
    }


def test_clients_may_reset_ownership_and_tracking_then_rests() -> None:
    old = config_map(a="1")
    old["metadata"] |= {"uid": "u", "managedFields": update(None, old, "one")}
    new = config_map(a="2")
    new["metadata"] |= {"uid": "u", "managedFields": [{}]}
    assert update(old, new, "two") == []
    new["metadata"]["managedFields"] = [{"manager": "x", "operation": "Odd", "apiVersion": "v1"}]
    assert len(update(old, new, "two")) == 2


def test_the_oldest_updaters_become_one_when_there_are_many() -> None:
    live: Any = config_map()
    live["metadata"]["uid"] = "u"
    for i in range(14):
        new = copy.deepcopy(live)
        new["data"][f"k{i}"] = "v"
        new["metadata"]["managedFields"] = update(live if i else None, new, f"m{i:02}", now=f"2024-01-01T00:00:{i:02}Z")
        live = new
    entries = live["metadata"]["managedFields"]
    assert len(entries) == managers.MAX_UPDATERS
    ancient = next(e for e in entries if e["manager"] == "ancient-changes")
    assert ancient["fieldsV1"]["f:data"].keys() >= {"f:k0", "f:k4"}


def test_replicas_are_owned_through_scale() -> None:
    parent = {"apiVersion": "apps/v1", "metadata": {"name": "d"}, "spec": {"replicas": 3, "paused": True}}
    parent["metadata"]["managedFields"] = apply(None, parent, "mgr-a", DEPLOYMENTS)["metadata"]["managedFields"]  # type: ignore[index]
    scales = kind("autoscaling", "Scale")
    entries = scale.scale_entries(parent)
    assert [(e["manager"], e["apiVersion"], e["fieldsV1"]) for e in entries] == [
        ("mgr-a", "autoscaling/v1", {"f:spec": {"f:replicas": {}}})
    ]
    live = {"metadata": {"name": "d", "uid": "u", "managedFields": entries}, "spec": {"replicas": 3}}
    with pytest.raises(Conflict, match=r'conflict with "mgr-a": \.spec\.replicas$'):
        apply(live, {"metadata": {"name": "d"}, "spec": {"replicas": 5}}, "hpa", scales, subresource="scale")
    after = update(live, live | {"spec": {"replicas": 5}}, "scaler", scales, subresource="scale", now=LATER)
    made = scale.parent_entries(parent, after, api_version="apps/v1")
    assert [(e["manager"], e["apiVersion"], e.get("subresource"), e["fieldsV1"]) for e in made] == [
        ("mgr-a", "apps/v1", None, {"f:spec": {"f:paused": {}}}),
        ("scaler", "apps/v1", "scale", {"f:spec": {"f:replicas": {}}}),
    ]
    assert "time" not in made[1]


def test_names_of_managers() -> None:
    assert managers.name_from_user_agent("kubectl/v1.32 (linux)") == "kubectl"
    assert managers.name_from_user_agent("a\tb" + "x" * 200) == "ab" + "x" * 126
    assert [str(e) for e in managers.name_errors("bad\tname")] == [
        'fieldManager: Invalid value: "bad\\tname": invalid character U+0009 (at position 3)'
    ]
    assert [str(e) for e in managers.name_errors("x" * 129)] == [
        "fieldManager: Too long: may not be more than 128 bytes"
    ]


def test_huge_numbers_in_sets_are_read_as_go_reads_them() -> None:
    numbers = Type("list", "[]interface {}", list_type="set")
    assert typed.element_of(numbers, 10**20) == typed.element_of(numbers, 1e20)


def test_the_oldest_of_one_version_become_one_and_others_keep_their_names() -> None:
    many = {
        managers.manager_id(f"m{i:02}", managers.UPDATE, "v1" if i == 0 else "v2", ""): managers.Owned(
            {f"f:k{i}": {}}, "v1" if i == 0 else "v2", f"2024-01-01T00:00:{i:02}Z"
        )
        for i in range(12)
    }
    made = {(name.name, name.version): owned for name, owned in managers.capped(many).items()}
    assert len(made) == managers.MAX_UPDATERS
    assert made["m00", "v1"].fields == {"f:k0": {}}
    ancient = made["ancient-changes", "v2"]
    assert set(ancient.fields) == {"f:k1", "f:k2", "f:k3"}
    assert ancient.time == "2024-01-01T00:00:03Z"


def deployment(replicas: int, image: str, label: str | None, selected: str, app: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "d"} | ({"labels": {"app": label}} if label else {}),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": selected}},
            "template": {
                "metadata": {"labels": {"app": app}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
        },
    }


@pytest.mark.parametrize(
    ("manager", "version", "conflicts"),
    [
        (
            "kubectl",
            "apps/v1",
            [
                ".metadata.labels.app",
                ".spec.replicas",
                '.spec.template.spec.containers[name="c"].image',
            ],
        ),
        (
            "other",
            "apps/v1",
            [
                ".metadata.labels.app",
                ".spec.replicas",
                ".spec.selector",
                ".spec.template.metadata.labels.app",
                '.spec.template.spec.containers[name="c"].image',
            ],
        ),
        ("kubectl", "extensions/v1beta1", None),
    ],
)
def test_kubectl_takes_over_what_is_as_it_applied_it(manager: str, version: str, conflicts: list[str] | None) -> None:
    last = {"apiVersion": version, "kind": "Deployment", **deployment(3, "i1", None, "a", "a")}
    live = {"apiVersion": "apps/v1", "kind": "Deployment", **deployment(100, "i2", "a", "a", "a")}
    live["metadata"] |= {"uid": "u", "annotations": {ssa.LAST_APPLIED: json.dumps(last)}}
    with pytest.raises(Conflict) as caught:
        apply(live, deployment(333, "i3", "n", "n", "n"), manager, DEPLOYMENTS)
    found = sorted(cause["field"] for cause in (caught.value.details or {})["causes"])
    assert found == conflicts if conflicts else len(found) == 5
