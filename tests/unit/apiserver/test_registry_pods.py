"""Where the messages about pods and nodes point, and what they show."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.apiserver.registry.validation import configuration, env, pods, services
from controlplane.apiserver.registry.validation.podspec import pod_spec
from machinery.api.meta import Object

_DEFAULTS: Object = {
    "name": "c",
    "image": "i",
    "imagePullPolicy": "Always",
    "terminationMessagePolicy": "File",
}


def container(**more: Any) -> Object:
    return {**_DEFAULTS, **more}


def spec(**more: Any) -> Object:
    basis = {"containers": [container()], "restartPolicy": "Always", "dnsPolicy": "ClusterFirst"}
    return {**basis, "terminationGracePeriodSeconds": 30, **more}


def port(outside: int) -> Object:
    return {"containerPort": 80, "hostPort": outside, "protocol": "TCP"}


_MOUNTS = "spec.containers[0].volumeMounts"
_ENV = "spec.containers[0].env[0].valueFrom"
_WINDOWS = "cannot be set for a windows pod"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (spec(), []),
        (spec(imagePullSecrets=[{}]), []),
        (
            spec(
                volumes=[{"name": "v", "emptyDir": {}}],
                containers=[container(volumeMounts=[{"name": "v", "mountPath": "/a", "mountPropagation": "Odd"}])],
            ),
            [
                f'{_MOUNTS}.mountPropagation: Unsupported value: "Odd": supported values: "Bidirectional", '
                '"HostToContainer", "None"'
            ],
        ),
        (
            spec(
                volumes=[{"name": "v", "emptyDir": {}}],
                containers=[
                    container(volumeMounts=[{"name": "v", "mountPath": "/a", "subPath": "b", "subPathExpr": "c"}])
                ],
            ),
            [f'{_MOUNTS}[0].subPathExpr: Invalid value: "c": subPathExpr and subPath are mutually exclusive'],
        ),
        (
            spec(containers=[container(resizePolicy=[{"resourceName": "gpu", "restartPolicy": "NotRequired"}])]),
            ['spec.containers[0].resizePolicy: Unsupported value: "gpu": supported values: "cpu", "memory"'],
        ),
        (
            spec(initContainers=[container(name="a"), container(name="b", ports=[port(1), port(1)])]),
            ['spec.initContainers[0].ports[1].hostPort: Duplicate value: "TCP//1"'],
        ),
        (
            spec(containers=[container(env=[{"name": "A", "valueFrom": {"secretKeyRef": {"key": "k"}}}])]),
            [
                f'{_ENV}.secretKeyRef.name: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower '
                "case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character "
                "(e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]"
                "*[a-z0-9])?)*')"
            ],
        ),
        (
            spec(containers=[container(envFrom=[{"secretRef": {}}])]),
            ["spec.containers[0].envFrom[0].secretRef.name: Required value"],
        ),
        (
            spec(hostPID=True, shareProcessNamespace=True),
            [
                "spec.securityContext.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID "
                "cannot both be enabled"
            ],
        ),
        (
            spec(securityContext={"seccompProfile": {"type": "RuntimeDefault", "localhostProfile": "a"}}),
            [
                'spec.securityContext.seccompProfile.localhostProfile: Invalid value: {"Type":"RuntimeDefault",'
                '"LocalhostProfile":"a"}: can only be set when seccomp type is Localhost'
            ],
        ),
        (
            spec(os={"name": "windows"}, hostPID=True, securityContext={"runAsUser": 1}),
            [f"spec.hostPID: Forbidden: {_WINDOWS}", f"spec.securityContext.runAsUser: Forbidden: {_WINDOWS}"],
        ),
        (
            spec(preemptionPolicy="Odd"),
            ['spec.preemptionPolicy: Unsupported value: "Odd": supported values: "PreemptLowerPriority", "Never"'],
        ),
        (
            spec(
                ephemeralContainers=[
                    container(name="e", image=" i", targetContainerName="x", lifecycle={"preStop": {}}, ports=[port(0)])
                ]
            ),
            [
                'spec.ephemeralContainers[0].image: Invalid value: " i": must not have leading or trailing whitespace',
                'spec.ephemeralContainers[0].targetContainerName: Not found: "x"',
                "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
                "spec.ephemeralContainers[0].lifecycle: Forbidden: cannot be set for an Ephemeral Container",
            ],
        ),
    ],
)
def test_pod_spec(given: Object, told: list[str]) -> None:
    assert [str(error) for error in pod_spec("spec", given)] == told


@pytest.mark.parametrize(
    ("version", "path", "told"),
    [
        ("v1", "metadata.labels['a']", []),
        ("v1", "metadata.labels['a b']", ['f: Invalid value: "a b": name part must consist of']),
        (
            "v2",
            "metadata.name",
            ['f.fieldPath: Invalid value: "metadata.name": error converting fieldPath: unsupported pod version: v2'],
        ),
        (
            "v1",
            "spec.a['b']",
            [
                "f.fieldPath: Invalid value: \"spec.a['b']\": error converting fieldPath: field label does not "
                "support subscript: spec.a['b']"
            ],
        ),
    ],
)
def test_field_reference(version: str, path: str, told: list[str]) -> None:
    errors = env.field_reference("f", {"apiVersion": version, "fieldPath": path}, env.ENV_FIELDS)
    assert len(errors) == len(told)
    assert all(str(error).startswith(text) for error, text in zip(errors, told, strict=True))


def test_profiles_of_new_pods_agree_with_annotations() -> None:
    def pod(annotation: str) -> Object:
        key = "container.apparmor.security.beta.kubernetes.io/c"
        profile = {"type": "Localhost", "localhostProfile": "a"}
        inner = container(securityContext={"appArmorProfile": profile})
        return {"metadata": {"annotations": {key: annotation}}, "spec": spec(containers=[inner])}

    at = "spec.containers[0].securityContext.appArmorProfile"
    assert pods.validate(pod("localhost/a")) == []
    assert [str(e) for e in pods.validate(pod("localhost/b"))] == [
        f"{at}.localhostProfile: Forbidden: apparmor profile in annotation and field must match"
    ]
    assert [str(e) for e in pods.validate(pod("unconfined"))] == [
        f"{at}.type: Forbidden: apparmor type in annotation and field must match"
    ]


def node(**more: Any) -> Object:
    return {"metadata": {"name": "n"}, "spec": more}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({}, {"podCIDRs": ["10.0.0.0/24"]}, []),
        (
            {"podCIDRs": ["10.0.0.0/24"]},
            {"podCIDRs": ["10.1.0.0/24"]},
            ['spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid'],
        ),
        ({}, {"externalID": "x"}, ["spec.externalID: Forbidden: may not be updated"]),
        (
            {},
            {"taints": [{"key": "k"}]},
            ["metadata.taints[0].effect: Required value", "metadata.taints[0].effect: Required value"],
        ),
    ],
)
def test_node_update(before: Object, after: Object, told: list[str]) -> None:
    assert [str(error) for error in configuration.node_update(node(**after), node(**before))] == told


def test_health_check_port_stays() -> None:
    def service(outside: int) -> Object:
        more = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": outside}
        more |= {"sessionAffinity": "None", "internalTrafficPolicy": "Cluster", "allocateLoadBalancerNodePorts": True}
        return {"spec": {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], **more}}

    assert services.service_update(service(30000), service(30000)) == []
    (error,) = services.service_update(service(30001), service(30000))
    assert str(error) == "spec.healthCheckNodePort: Forbidden: field is immutable"
