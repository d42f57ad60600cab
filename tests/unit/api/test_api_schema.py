from typing import Any

import pytest

from machinery.api import schema, schema_types

SCHEMAS = schema.load()


def kind(group: str, name: str, version: str = "v1") -> schema.KindSchema:
    found = SCHEMAS.of(group, version, name)
    assert found is not None
    return found


PODS = kind("", "Pod")
DEPLOYMENTS = kind("apps", "Deployment")
CONFIG_MAPS = kind("", "ConfigMap")


def test_a_kind_that_does_not_exist_has_no_schema() -> None:
    assert SCHEMAS.of("", "v1", "Nope") is None
    assert PODS.api_version == "v1"
    assert DEPLOYMENTS.api_version == "apps/v1"


def test_unknown_fields_are_left_out_and_named_in_the_order_of_the_object() -> None:
    sent = {"bogus": {"x": 1}, "spec": {"containers": [{"name": "c", "imagePull": 1, "env": [{"valeu": "2"}]}]}}
    decoded = PODS.decode(sent)
    assert decoded.unknown == (
        'unknown field "bogus"',
        'unknown field "spec.containers[0].imagePull"',
        'unknown field "spec.containers[0].env[0].valeu"',
    )
    assert decoded.object["spec"]["containers"] == [{"name": "c", "env": [{"name": ""}], "resources": {}}]
    assert "bogus" in sent


def test_duplicate_and_unknown_fields_are_told_in_the_order_of_the_text() -> None:
    text = b'{"metadata":{"nope":1},"data":{"a":"1","a":"2"},"bogus":1}'
    assert CONFIG_MAPS.strict_errors(text) == [
        'unknown field "metadata.nope"',
        'duplicate field "data.a"',
        'unknown field "bogus"',
    ]


def test_what_is_empty_is_printed_as_go_prints_it() -> None:
    sent = {
        "metadata": {"name": "a", "labels": {}, "annotations": {"x": None}, "creationTimestamp": None},
        "spec": {
            "replicas": 0,
            "paused": False,
            "template": {"spec": {"containers": [], "hostNetwork": False, "securityContext": {}, "priority": 0}},
        },
    }
    assert DEPLOYMENTS.decode(sent).object == {
        "metadata": {"name": "a", "annotations": {"x": ""}},
        "spec": {
            "replicas": 0,
            "selector": None,
            "strategy": {},
            "template": {"metadata": {}, "spec": {"securityContext": {}, "priority": 0}},
        },
        "status": {},
    }


@pytest.mark.parametrize(
    ("group", "name", "sent", "printed"),
    [
        ("rbac.authorization.k8s.io", "Role", {"rules": []}, {"metadata": {}, "rules": None}),
        ("", "Node", {"spec": {"unschedulable": False, "podCIDRs": []}}, {"spec": {}}),
        ("apps", "ReplicaSet", {"status": {}}, {"status": {"replicas": 0}}),
        (
            "",
            "PersistentVolumeClaim",
            {"spec": {"storageClassName": ""}},
            {"spec": {"storageClassName": "", "resources": {}}},
        ),
        ("networking.k8s.io", "NetworkPolicy", {"spec": {}}, {"spec": {"podSelector": {}}}),
    ],
)
def test_each_kind_has_its_own_empty_fields(group: str, name: str, sent: Any, printed: Any) -> None:
    made = kind(group, name).decode(sent).object
    assert {k: made[k] for k in printed} == printed


def test_quantities_times_and_bytes_become_canonical() -> None:
    pod = PODS.decode(
        {
            "metadata": {"creationTimestamp": "2024-02-29T23:30:00.75-01:00"},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": 0.5, "memory": " 1024Mi"}}}]},
        }
    ).object
    assert pod["metadata"]["creationTimestamp"] == "2024-03-01T00:30:00Z"
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "500m", "memory": "1Gi"}
    renewed = {"spec": {"renewTime": "2024-01-01T01:00:00.000000+01:00"}}
    lease = kind("coordination.k8s.io", "Lease").decode(renewed).object
    assert lease["spec"]["renewTime"] == "2024-01-01T00:00:00.000000Z"
    secret = kind("", "Secret").decode({"data": {"a": "YQ\n==", "b": None}}).object
    assert secret["data"] == {"a": "YQ==", "b": ""}


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ([], "json: cannot unmarshal array into Go value of type v1.Pod"),
        ({"metadata": "x"}, "json: cannot unmarshal string into Go struct field Pod.metadata of type v1.ObjectMeta"),
        (
            {"metadata": {"labels": {"a": 1}}},
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            {"metadata": {"labels": "x"}},
            "json: cannot unmarshal string into Go struct field ObjectMeta.metadata.labels of type map[string]string",
        ),
        (
            {"spec": {"containers": [{"name": "a"}, {"image": True}]}},
            "json: cannot unmarshal bool into Go struct field Container.spec.containers.image of type string",
        ),
        (
            {"spec": {"priority": 3000000000}},
            "json: cannot unmarshal number 3000000000 into Go struct field PodSpec.spec.priority of type int32",
        ),
        (
            {"spec": {"hostNetwork": "yes"}},
            "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool",
        ),
        (
            {"metadata": {"creationTimestamp": "now"}},
            'parsing time "now" as "2006-01-02T15:04:05Z07:00": cannot parse "now" as "2006"',
        ),
        (
            {"metadata": {"creationTimestamp": "2024-13-01T00:00:00Z"}},
            'parsing time "2024-13-01T00:00:00Z": month out of range',
        ),
        ({"metadata": {"creationTimestamp": 5}}, "json: cannot unmarshal number into Go value of type string"),
        (
            {"spec": {"containers": [{"livenessProbe": {"httpGet": {"port": 1.5}}}]}},
            "json: cannot unmarshal number 1.5 into Go value of type int32",
        ),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_in_gos_words(sent: Any, message: str) -> None:
    decoded = PODS.decode(sent)
    assert decoded.errors == (message,)
    assert decoded.object == {}


@pytest.mark.parametrize(
    ("text", "at"), [("!", 0), ("aGk", 0), ("aGk=x", 4), ("aGVsYQ", 4), ("YQ=", 3), ("YQ=a", 2), ("aGV!", 3), ("=", 0)]
)
def test_bad_base64_is_found_where_go_finds_it(text: str, at: int) -> None:
    errors = kind("", "Secret").decode({"data": {"a": text}}).errors
    assert errors == (f"illegal base64 data at input byte {at}",)


def test_reading_twice_changes_nothing_more() -> None:
    for group, version, name in SCHEMAS.kinds():
        found = SCHEMAS.of(group, version, name)
        assert found is not None
        once = found.decode({"metadata": {"name": "x"}, "spec": {}, "status": {}})
        if not once.errors:
            assert found.decode(once.object).object == once.object, name


def test_types_tell_what_lists_are() -> None:
    spec = PODS.type.fields["spec"]
    ports = spec.fields["containers"].element.fields["ports"]  # type: ignore[union-attr]
    assert (ports.list_type, ports.map_keys, ports.merge_key) == ("map", ("containerPort", "protocol"), "containerPort")
    assert ports.element is not None
    assert ports.element.defaults == {"containerPort": 0, "protocol": "TCP"}
    assert spec.fields["nodeSelector"].atomic
    assert DEPLOYMENTS.type.fields["spec"].field_strategies["strategy"] == {"retainKeys"}
    assert spec.fields["volumes"].strategies == {"merge", "retainKeys"}


def test_a_schema_that_contains_itself_is_read_to_any_depth() -> None:
    crd = kind("apiextensions.k8s.io", "CustomResourceDefinition")
    inner = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string", "oops": 1}}}}
    decoded = crd.decode({"spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": inner}}]}})
    assert decoded.unknown == ('unknown field "spec.versions[0].schema.openAPIV3Schema.properties.a.items.oops"',)


def test_the_published_definitions_are_upstreams_again() -> None:
    published = schema_types.published()
    assert published["io.k8s.apimachinery.pkg.api.resource.Quantity"]["type"] == "string"
    pod = published["io.k8s.api.core.v1.Pod"]
    assert pod["type"] == "object"
    assert pod["properties"]["kind"]["type"] == "string"
    assert "enum" not in pod["properties"]["kind"]
