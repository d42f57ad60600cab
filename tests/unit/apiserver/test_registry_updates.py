"""Changes of objects: what stays, what may change, and how often upstream tells that a whole object is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.apiserver.registry import strategy_for
from controlplane.apiserver.registry.columns.table import COLUMNS
from controlplane.apiserver.registry.validation import parts
from machinery.api import catalogue, names
from machinery.api.fielderror import FieldError
from machinery.api.meta import Object
from machinery.api.resource import ResourceType

(QUALIFIED,) = names.qualified_name("bad name")
POD = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}


def told(errors: list[FieldError]) -> list[str]:
    return [str(error) for error in errors]


def update(resource: ResourceType, new: Object, old: Object) -> list[str]:
    return told(strategy_for(resource).validate_update(new, old))


@pytest.mark.parametrize(
    ("resource", "new", "old", "lines"),
    [
        (
            catalogue.ROLES,
            {"rules": [{"verbs": [], "apiGroups": [""], "resources": ["pods"]}]},
            {},
            ["rules[0].verbs: Required value: verbs must contain at least one value"],
        ),
        (
            catalogue.CSINODES,
            {"spec": {"drivers": [{"name": "d.io"}]}},
            {},
            ["spec.drivers[0].nodeID: Required value"],
        ),
        (
            catalogue.NETWORKPOLICIES,
            {"spec": {"ingress": [{"from": [{}]}]}},
            {},
            ["spec.ingress[0].from[0]: Required value: must specify a peer"],
        ),
        (
            catalogue.DEVICECLASSES,
            {"spec": {"config": [{}]}},
            {},
            ["spec.config[0].opaque: Required value"],
        ),
    ],
)
def test_some_kinds_are_looked_at_twice(resource: ResourceType, new: Object, old: Object, lines: list[str]) -> None:
    assert update(resource, new, old) == lines * 2


@pytest.mark.parametrize(
    ("resource", "new", "old", "lines"),
    [
        (
            catalogue.STORAGECLASSES,
            {
                "provisioner": "Bad Name",
                "volumeBindingMode": "Immediate",
                "allowedTopologies": [{"matchLabelExpressions": []}],
            },
            {"provisioner": "Bad Name", "volumeBindingMode": "Immediate"},
            [
                f'provisioner: Invalid value: "bad name": {QUALIFIED}',
                'allowedTopologies[0].matchLabelExpressions: Duplicate value: ""',
            ],
        ),
        (
            catalogue.IPADDRESSES,
            {"spec": {}},
            {"spec": {"parentRef": {"resource": "services", "name": "a"}}},
            ["spec.parentRef: Required value", "spec.parentRef: Invalid value: null: field is immutable"],
        ),
        (
            catalogue.INGRESSCLASSES,
            {"spec": {"controller": "", "parameters": {"kind": "K", "name": "n", "scope": "Namespace"}}},
            {"spec": {"controller": "a.io/c"}},
            [
                'spec.controller: Invalid value: "": field is immutable',
                "spec.controller: Required value",
                "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
            ],
        ),
        (
            catalogue.CSIDRIVERS,
            {
                "spec": {
                    "attachRequired": True,
                    "podInfoOnMount": True,
                    "storageCapacity": False,
                    "seLinuxMount": False,
                    "fsGroupPolicy": "None",
                }
            },
            {"spec": {"attachRequired": True, "fsGroupPolicy": "File"}},
            [],
        ),
        (
            catalogue.VOLUMEATTRIBUTESCLASSES,
            {"driverName": "d.io", "parameters": {}},
            {"driverName": "d.io", "parameters": {"a": "b"}},
            [
                "parameters: Required value: must contain at least one key/value pair",
                "parameters: Forbidden: updates to parameters are forbidden.",
                "parameters: Required value: must contain at least one key/value pair",
            ],
        ),
    ],
)
def test_changes_are_held_against_the_rules_for_new_objects(
    resource: ResourceType, new: Object, old: Object, lines: list[str]
) -> None:
    assert update(resource, new, old) == lines


def test_reports_about_attachments_are_bounded() -> None:
    spec = {"attacher": "a.io", "source": {"persistentVolumeName": "p"}, "nodeName": "n"}
    error = {"errorCode": -1, "message": "m" * 1025}
    new = {"spec": spec, "status": {"attachError": error, "attachmentMetadata": {"k": "v" * 256 * 1024}}}
    lines = told(strategy_for(catalogue.VOLUMEATTACHMENTS).validate_status_update(new, {"spec": spec}))
    assert (
        lines
        == [
            "status.attachmentMetadata: Too long: may not be more than 262144 bytes",
            "status.attachError.message: Too long: may not be more than 262144 bytes",
            "status.attachError.errorCode: Invalid value: -1: must be between 0 and 2147483647, inclusive",
        ]
        * 2
    )


def test_a_new_attachment_names_a_driver() -> None:
    spec = {"attacher": "a_b", "source": {"persistentVolumeName": "P"}, "nodeName": "n"}
    fields = [error.field for error in strategy_for(catalogue.VOLUMEATTACHMENTS).validate({"spec": spec})]
    assert fields == ["spec.attacher", "spec.source.persistentVolumeName"]


@pytest.mark.parametrize(
    ("resource", "name", "accepted"),
    [
        (catalogue.CERTIFICATESIGNINGREQUESTS, "node:A_b", True),
        (catalogue.CERTIFICATESIGNINGREQUESTS, "a/b", False),
        (catalogue.CUSTOMRESOURCEDEFINITIONS, "A_b", True),  # that it is not its kind's is told, and nothing else
    ],
)
def test_names_of_some_kinds(resource: ResourceType, name: str, accepted: bool) -> None:
    check = strategy_for(resource).validate_name
    assert check is not None
    assert (not check(name)) is accepted


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ("10.0.0.1", ""),
        ("fd00::1", ""),
        ("10.0.0.01", "must not have leading 0s"),
        ("::ffff:10.0.0.1", "must not be an IPv4-mapped IPv6 address"),
        ("10.0.0", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
        ("fe80::1%eth0", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
    ],
)
def test_addresses(value: str, wrong: str) -> None:
    assert told(parts.check_address("f", value)) == ([f'f: Invalid value: "{value}": {wrong}'] if wrong else [])


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ("10.0.0.0/8", ""),
        ("::1/128", ""),
        ("10.0.0.0/08", "must not have leading 0s in IP or prefix length"),
        ("010.0.0.0/8", "must not have leading 0s in IP or prefix length"),
        ("10.0.0.1/8", "must not have bits set beyond the prefix length"),
        ("::ffff:10.0.0.0/104", "must not have an IPv4-mapped IPv6 address"),
        ("10.0.0.0/33", "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"),
        ("10.0.0.0", "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"),
    ],
)
def test_ranges(value: str, wrong: str) -> None:
    assert told(parts.check_network("f", value)) == ([f'f: Invalid value: "{value}": {wrong}'] if wrong else [])


def job(status: Object | None = None, *, suspend: bool = True, labels: Object | None = None, **pod: Any) -> Object:
    given = {"controller-uid": "u", "job-name": "j"} if labels is None else labels
    uid, name = "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"
    template = {"metadata": {"labels": {**given, uid: "u", name: "j"}}, "spec": POD | pod}
    spec = {"suspend": suspend, "selector": {"matchLabels": {uid: "u"}}, "template": template}
    return {"metadata": {"name": "j", "uid": "u"}, "spec": spec, "status": status or {}}


STARTED: Object = {"startTime": "2020-01-01T00:00:00Z"}
RESTING: Object = STARTED | {"conditions": [{"type": "Suspended", "status": "True"}]}
GREEDY: Object = {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "4"}}}]}
OTHER: Object = {"containers": [{"name": "c", "image": "other"}]}
NEAR: Object = {
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "k", "operator": "Exists"}]}]
            }
        }
    }
}


@pytest.mark.parametrize(
    ("new", "old", "field"),
    [
        (job(), job(), ""),
        (job(**GREEDY), job(), ""),
        (job(nodeSelector={"a": "b"}, **NEAR), job(), ""),
        (job(labels={"controller-uid": "u", "job-name": "j", "x": "y"}), job(), ""),
        (job(**OTHER), job(), "spec.template.spec"),
        (job(**GREEDY), job(suspend=False), "spec.template"),
        (job(**GREEDY), job(STARTED), "spec.template"),
        (job(**GREEDY), job(RESTING), ""),
        (job(**GREEDY), job(RESTING | {"active": 1}), "spec.template"),
    ],
)
def test_template_of_a_job(new: Object, old: Object, field: str) -> None:
    errors = [e for e in strategy_for(catalogue.JOBS).validate_update(new, old) if "immutable" in e.body]
    assert [error.field for error in errors] == ([field] if field else [])


def test_a_default_class_is_marked() -> None:
    annotations = {"ingressclass.kubernetes.io/is-default-class": "true"}
    cell = COLUMNS[catalogue.INGRESSCLASSES][0].cell
    assert cell({"metadata": {"name": "a", "annotations": annotations}}) == "a (default)"
    assert cell({"metadata": {"name": "a"}}) == "a"


def metric(kind: str, **source: Any) -> Object:
    return {"type": kind} | source


def autoscaler(*metrics: Object, least: int = 1) -> list[str]:
    target = {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}
    spec = {"minReplicas": least, "maxReplicas": 2, "scaleTargetRef": target, "metrics": list(metrics)}
    errors = strategy_for(catalogue.HORIZONTALPODAUTOSCALERS).validate({"spec": spec})
    return [f"{error.field} {error.reason}" for error in errors]


def test_metrics_of_an_autoscaler() -> None:
    assert autoscaler(metric("")) == [
        "spec.metrics[0].type FieldValueRequired",
        *["spec.metrics[0].type FieldValueNotSupported"] * 2,
    ]
    pods = {"metric": {"name": "m"}, "target": {"type": "", "averageValue": "0"}}
    assert autoscaler(metric("Pods", pods=pods)) == [
        "spec.metrics[0].pods.target.type FieldValueRequired",
        "spec.metrics[0].pods.target.type FieldValueInvalid",
        "spec.metrics[0].pods.target.averageValue FieldValueInvalid",
    ]
    container = {"name": "magic", "container": "C", "target": {"type": "Utilization", "averageUtilization": 1}}
    fields = autoscaler(metric("ContainerResource", containerResource=container))
    assert {line.split(" ")[0].rpartition(".")[2] for line in fields} == {"name", "container"}
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 1}}
    assert autoscaler(metric("Resource", resource=cpu), least=0) == [
        "spec.minReplicas FieldValueInvalid",
        "spec.metrics FieldValueForbidden",
    ]
