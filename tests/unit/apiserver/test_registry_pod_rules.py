"""Rules of pods in upstream's own, sometimes odd, words."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pod_rules import pod, told, wrong

from controlplane.apiserver.handlers.parts import RULES
from controlplane.apiserver.registry.validation import (
    operating_system,
    pod_status,
    pods,
    resources,
    scheduling,
    security,
)
from controlplane.apiserver.registry.validation import podspec as podspecs
from machinery.api.catalogue import PODS
from machinery.api.meta import Object


def test_an_image_volume_of_a_template_may_lack_its_image() -> None:
    volume = {"name": "v", "image": {"pullPolicy": "Always"}}
    made = pod(volumes=[volume])
    assert wrong(made) == ["spec.volumes[0].image.reference: Required value"]
    assert told(podspecs.template("spec.template", {"spec": made["spec"]})) == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"containers": [{"image": "i"}, {"image": "i"}]},
            [
                "spec.containers[0].name: Required value",
                "spec.containers[1].name: Required value",
                'spec.containers[1].name: Duplicate value: ""',
            ],
        ),
        (
            {"overhead": {"cpus": "1"}},
            [
                'spec.overhead.limits[cpus]: Invalid value: "cpus": must be a standard resource type or fully '
                'qualified',
                'spec.overhead.limits[cpus]: Invalid value: "cpus": must be a standard resource for containers',
            ],
        ),
        (
            {"topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "a b", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
            ]},
            [],
        ),
        (
            {"securityContext": {"sysctls": [{"name": "a_B"}]}},
            [
                'spec.securityContext.sysctls[0].name: Invalid value: "a_B": must have at most 253 characters '
                'and match '
                r"regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
            ],
        ),
        (
            {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "preference": {"matchExpressions": [{"key": "k", "operator": "In", "values": ["a b"]}]}}
            ]}}},
            [],
        ),
    ],
)  # fmt: skip
def test_specs_of_pods(spec: Object, expected: list[str]) -> None:
    assert wrong(pod(**spec)) == expected


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        ({"matchLabelKeys": ["a"], "labelSelector": {"matchLabels": {"a": "b"}}}, []),
        (
            {"matchLabelKeys": ["a"], "labelSelector": {"matchExpressions": [{"key": "a", "operator": "Exists"}] * 2}},
            ['t[0]: Invalid value: "a": exists in both matchLabelKeys and labelSelector'],
        ),
        (
            {"mismatchLabelKeys": ["a"], "labelSelector": {"matchLabels": {"a": "b"}}, "matchLabelKeys": ["a"]},
            ['t.matchLabelKeys[0]: Invalid value: "a": exists in both matchLabelKeys and mismatchLabelKeys'],
        ),
        (
            {"matchLabelKeys": ["a"]},
            ["t.matchLabelKeys: Forbidden: must not be specified when labelSelector is not set"],
        ),
    ],
)
def test_keys_of_labels_that_are_added_to_selectors(term: Object, expected: list[str]) -> None:
    assert told(scheduling._pod_term("t", {"topologyKey": "z", **term})) == expected


@pytest.mark.parametrize(
    ("claims_of", "expected"),
    [
        ([{"name": ""}], ["r.claims[0]: Required value"]),
        (
            [{"name": "x"}],
            ['r.claims[0]: Not found: "x": must be one of the names in pod.spec.resourceClaims: a, b'],
        ),
        ([{"name": "a", "request": "one"}, {"name": "a", "request": "two"}], []),
        ([{"name": "a", "request": "one"}, {"name": "a"}], ['r.claims[1]: Duplicate value: "a"']),
        ([{"name": "a"}, {"name": "a", "request": "one"}], ['r.claims[1]: Duplicate value: "a"']),
    ],
)
def test_claims_of_containers(claims_of: list[Object], expected: list[str]) -> None:
    assert told(resources.container_resources("r", {"claims": claims_of}, frozenset("ab"))) == expected


def test_huge_pages_have_a_size() -> None:
    found = told(resources.container_resources("r", {"limits": {"cpu": "1", "hugepages-x": "1"}}, frozenset()))
    assert found == ['r.limits[hugepages-x]: Invalid value: "1": 1 is not positive integer multiple of hugepages-x']


@pytest.mark.parametrize(
    ("user", "details"),
    [
        ("NetBios\\user", []),
        ("a.domain.com\\user", []),
        (".x\\user", ["Domain doesn't match the NetBios nor the DNS format"]),
        ("d" * 257 + "\\u", [
            "Domain length must be under 256 characters", "Domain doesn't match the NetBios nor the DNS format",
        ]),
    ],
)  # fmt: skip
def test_users_of_windows(user: str, details: list[str]) -> None:
    found = told(security.windows_options("w", {"runAsUserName": user}))
    assert [error.partition("runAsUserName's ")[2] for error in found] == details


def test_a_container_agrees_with_its_pod_on_being_a_host_process() -> None:
    own = {"securityContext": {"windowsOptions": {"hostProcess": False}}}
    spec = {"containers": [own], "securityContext": {"windowsOptions": {"hostProcess": True}}}
    assert told(operating_system.host_process("spec", spec)) == [
        "spec.containers[0].securityContext.windowsOptions.hostProcess: Invalid value: false: pod hostProcess "
        "value must "
        "be identical if both are specified, was true"
    ]


SECCOMP = "seccomp.security.alpha.kubernetes.io/pod"


@pytest.mark.parametrize(
    ("annotations", "spec", "expected"),
    [
        ({SECCOMP: "runtime/default"}, {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}, []),
        (
            {SECCOMP: "unconfined"},
            {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}},
            [
                "spec.securityContext.seccompProfile.type: Forbidden: seccomp type in annotation and field must match",
            ],
        ),
        (
            {f"container.{SECCOMP.removesuffix('pod')}c": "odd"},
            {},
            [
                "metadata.annotations.container.seccomp.security.alpha.kubernetes.io/c: Invalid value: "
                '"odd": must be a valid seccomp profile'
            ],
        ),
        (
            {"scheduler.alpha.kubernetes.io/tolerations": '[{"operator": "Odd", "key": "k"}]'},
            {},
            [
                "metadata.annotations.scheduler.alpha.kubernetes.io/tolerations[0].operator: Unsupported value: "
                '"Odd": supported values: "Equal", "Exists"'
            ],
        ),
    ],
)
def test_annotations_in_place_of_fields(annotations: Object, spec: Object, expected: list[str]) -> None:
    made = pod(**spec)
    made["metadata"]["annotations"] = annotations
    assert wrong(made) == expected


def changed(old: Object, change: Any) -> list[str]:
    new = copy.deepcopy(old)
    change(new["spec"])
    return told(pods.validate_update(new, old))


def affinity(*terms: Object) -> Object:
    key = "requiredDuringSchedulingIgnoredDuringExecution"
    return {"nodeAffinity": {key: {"nodeSelectorTerms": list(terms)}}}


IN = {"key": "k", "operator": "Exists"}
TERMS = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
SHOWN = '{"MatchExpressions":[{"Key":"k","Operator":"Exists","Values":null}],"MatchFields":null}'


@pytest.mark.parametrize(
    ("before", "change", "expected"),
    [
        (
            {"nodeSelector": {"a": "b"}},
            lambda spec: spec.update(nodeSelector={"c": "d"}),
            [
                'spec.nodeSelector: Invalid value: {"c":"d"}: only additions to spec.nodeSelector are allowed (no '
                "mutations or deletions)"
            ],
        ),
        (
            {"affinity": affinity({"matchExpressions": [IN]})},
            lambda spec: spec.pop("affinity"),
            [f"{TERMS}: Invalid value: null: no additions/deletions to non-empty NodeSelectorTerms list are allowed"],
        ),
        (
            {"affinity": affinity({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}, {})},
            lambda spec: spec.update(affinity=affinity({"matchExpressions": [IN]}, {})),
            [f"{TERMS}[0]: Invalid value: {SHOWN}: only additions are allowed (no mutations or deletions)"],
        ),
        ({}, lambda spec: spec.update(affinity=affinity({"matchExpressions": [IN]})), []),
    ],
)
def test_gated_pods_become_choosier_only(before: Object, change: Any, expected: list[str]) -> None:
    assert changed(pod(schedulingGates=[{"name": "g"}], **before), change) == expected


def test_a_deadline_that_is_taken_away_is_not_all_that_is_told() -> None:
    def change(spec: Object) -> None:
        del spec["activeDeadlineSeconds"], spec["tolerations"]

    assert changed(pod(activeDeadlineSeconds=5, tolerations=[{"operator": "Exists"}]), change) == [
        "spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value",
        "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
    ]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"hostIP": "1.1.1.1", "hostIPs": [{"ip": "1.1.1.2"}]}, [
            'status.hostIPs[0].ip: Invalid value: "1.1.1.2": must be equal to `hostIP`'
        ]),
        ({"podIPs": [{"ip": "1.1.1.1"}, {"ip": "::1"}, {"ip": "::1"}]}, [
            'status.podIPs: Invalid value: [{"IP":"1.1.1.1"},{"IP":"::1"},{"IP":"::1"}]: may specify no more '
            'than one IP '
            "for each IP family",
            'status.podIPs[2]: Duplicate value: {"IP":"::1"}',
        ]),
        ({"resourceClaimStatuses": [{"name": "a"}, {"name": "x"}, {"name": "a"}]}, [
            'status.resourceClaimStatuses[1].name: Invalid value: "x": must match the name of an entry in '
            "`spec.resourceClaims`",
            'status.resourceClaimStatuses[2].name: Duplicate value: "a"',
        ]),
        ({"containerStatuses": [{"name": "c", "user": {"linux": {"uid": -1, "gid": 0}}}]}, [
            "status.containerStatuses[0].linux.uid: Invalid value: -1: must be between 0 and 4294967295, inclusive"
        ]),
        ({"containerStatuses": [{"name": "c", "allocatedResourcesStatus": [
            {"name": "e.x/d", "resources": [
                {"resourceID": "1", "health": "Healthy"}, {"resourceID": "1", "health": "?"},
            ]}
        ]}]}, [
            "status.containerStatuses[0].allocatedResourcesStatus[0].name: Invalid value: \"e.x/d\": must match "
            "one of the "
            "container's resource requests",
            'status.containerStatuses[0].allocatedResourcesStatus[0].resources[1].health: Unsupported value: "?": '
            'supported values: "Healthy", "Unhealthy", "Unknown"',
            "status.containerStatuses[0].allocatedResourcesStatus[0].resources[1].resourceID: Duplicate value: \"1\"",
        ]),
        ({"ephemeralContainerStatuses": [{"name": "e", "allocatedResourcesStatus": [{"name": "x"}]}]}, [
            "status.ephemeralContainerStatuses[0].allocatedResourcesStatus: Forbidden: must not be specified in "
            "container "
            "status"
        ]),
    ],
)  # fmt: skip
def test_reports_about_pods(status: Object, expected: list[str]) -> None:
    old = pod(resourceClaims=[{"name": "a", "resourceClaimName": "b"}])
    assert told(pod_status.validate_status_update({**old, "status": status}, old)) == expected


@pytest.mark.parametrize("subresource", ["ephemeralcontainers", "resize"])
def test_static_pods_are_told_of_as_a_whole(subresource: str) -> None:
    old = pod(nodeName="n")
    old["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    (error,) = told(RULES[PODS, subresource].validate(copy.deepcopy(old), old))
    assert error.startswith("[]: Forbidden: static pods ")


def test_init_containers_are_resized_unless_they_would_have_to_restart() -> None:
    old = pod(initContainers=[{"name": "i", "image": "i", "resources": {"requests": {"cpu": "1"}}}])
    new = copy.deepcopy(old)
    new["spec"]["initContainers"][0]["resources"]["requests"]["cpu"] = "2"
    rule = RULES[PODS, "resize"].validate
    assert told(rule(new, old)) == []
    policy = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
    for made in (old, new):
        made["spec"]["initContainers"][0]["resizePolicy"] = policy
    assert told(rule(new, old)) == [
        "spec.initContainers[0]: Forbidden: non-sidecar init containers with a resize policy of RestartContainer "
        "cannot "
        "be resized"
    ]


@pytest.mark.parametrize(
    ("resources", "container", "defaulted"),
    [
        ({"requests": {"cpu": "1"}}, {"requests": {"memory": "1Mi"}}, {"requests": {"cpu": "1"}}),
        (
            {"limits": {"cpu": "2", "memory": "2Mi"}},
            {"requests": {"memory": "1Mi"}},
            {"limits": {"cpu": "2", "memory": "2Mi"}, "requests": {"memory": "1Mi", "cpu": "2"}},
        ),
        (
            {"requests": {"cpu": "1"}},
            {"limits": {"hugepages-2Mi": "4Mi", "cpu": "1"}},
            {"requests": {"cpu": "1", "hugepages-2Mi": "4Mi"}, "limits": {"hugepages-2Mi": "4Mi"}},
        ),
        (
            {"limits": {"hugepages-2Mi": "8Mi"}},
            {"limits": {"hugepages-2Mi": "4Mi", "cpu": "1"}},
            {"requests": {"cpu": "1", "hugepages-2Mi": "8Mi"}, "limits": {"hugepages-2Mi": "8Mi"}},
        ),
    ],
)
def test_what_a_pod_as_a_whole_asks_for_by_default(resources: Object, container: Object, defaulted: Object) -> None:
    made = pod(resources=resources, containers=[{"name": "c", "image": "i", "resources": container}])
    assert made["spec"]["resources"] == defaulted
    assert wrong(made) == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"limits": {"cpu": "1"}},
            [
                'spec.resources.containers[0][cpu].limits: Invalid value: "2": '
                "must be less than or equal to pod limits of 1"
            ],
        ),
        (
            {"requests": {"cpu": "500m"}},
            [
                'spec.resources.requests[cpu]: Invalid value: "500m": '
                "must be greater than or equal to aggregate container requests of 1"
            ],
        ),
        (
            {"limits": {"hugepages-2Mi": "2Mi"}, "requests": {"hugepages-2Mi": "2Mi", "cpu": "1"}},
            [
                'spec.resources.requests[hugepages-2Mi]: Invalid value: "2Mi": '
                "must be greater than or equal to aggregate container requests of 4Mi",
                'spec.resources.limits[hugepages-2Mi]: Invalid value: "2Mi": '
                "must be greater than or equal to aggregate container limits of 4Mi",
                'spec.resources.containers[0][hugepages-2Mi].limits: Invalid value: "4Mi": '
                "must be less than or equal to pod limits of 2Mi",
            ],
        ),
    ],
)
def test_containers_fit_into_what_the_pod_asks_for(spec: Object, expected: list[str]) -> None:
    asking = {"limits": {"cpu": "2", "hugepages-2Mi": "4Mi"}, "requests": {"cpu": "1"}}
    made = pod(resources=spec, containers=[{"name": "c", "image": "i", "resources": asking}])
    assert wrong(made) == expected


def test_windows_has_no_resources_of_a_pod_as_a_whole() -> None:
    made = pod(resources={"limits": {"cpu": "1"}}, os={"name": "windows"})
    assert wrong(made) == ["spec.resources: Forbidden: may not be set for a windows pod"]
