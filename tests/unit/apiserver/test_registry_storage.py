"""Changes of volumes and claims, told as upstream tells them: in the form of its internal types."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.apiserver.registry.validation import claims, csi, networking, storage, volumes
from machinery.api.meta import Object

_SPEC_FIXED = (
    "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName "
    "for bound claims\n"
)


def claim(phase: str = "Pending", capacity: str = "", size: str = "2Gi", **spec: Any) -> Object:
    status: Object = {"phase": phase, **({"capacity": {"storage": capacity}} if capacity else {})}
    asked = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec}
    return {"metadata": {"name": "a", "resourceVersion": "1"}, "spec": asked, "status": status}


def told(errors: list[Any]) -> list[str]:
    return [str(error) for error in errors]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (claim(), claim(volumeName="v")),
        (claim(), claim(storageClassName="fast")),
        (claim("Bound", "2Gi"), claim("Bound", "2Gi", "3Gi")),
        (claim("Bound", "1Gi", "3Gi"), claim("Bound", "1Gi", "2Gi")),
        (claim("Bound"), claim("Bound", volumeAttributesClassName="gold")),
        (claim("Bound", volumeAttributesClassName="gold"), claim("Bound")),
    ],
)
def test_claim_may_change(before: Object, after: Object) -> None:
    assert claims.claim_update(after, before) == []


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        (claim(volumeName="v"), claim(volumeName="w"), ['- "VolumeName": "v",', '+ "VolumeName": "w",']),
        (claim(), claim(size="3Gi"), ['-   "storage": "2Gi"', '+   "storage": "3Gi"']),
        (
            claim(storageClassName="a"),
            claim(storageClassName="b"),
            ['- "StorageClassName": "a",', '+ "StorageClassName": "b",'],
        ),
        (
            claim(),
            claim(volumeAttributesClassName="gold"),
            ['- "VolumeAttributesClassName": null', '+ "VolumeAttributesClassName": "gold"'],
        ),
    ],
)
def test_claim_may_not_change(before: Object, after: Object, lines: list[str]) -> None:
    (error,) = told(claims.claim_update(after, before))
    assert error.startswith(_SPEC_FIXED + "@@ -")
    assert [line for line in error.splitlines()[2:] if line[0] in "+-"] == lines


def test_claim_may_not_shrink_below_its_volume() -> None:
    errors = claims.claim_update(claim("Bound", "2Gi", "1Gi"), claim("Bound", "2Gi"))
    assert told(errors) == ["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"]


@pytest.mark.parametrize(("after", "words"), [({}, "nil"), ({"volumeAttributesClassName": ""}, "empty string")])
def test_applied_attributes_stay(after: Object, words: str) -> None:
    before = claim("Bound", volumeAttributesClassName="gold")
    before["status"]["currentVolumeAttributesClassName"] = "gold"
    (error,) = told(claims.claim_update(claim("Bound", **after), before))
    detail = f"update to {words} is forbidden when status.currentVolumeAttributesClassName is not nil"
    assert error == f"spec.volumeAttributesClassName: Forbidden: {detail}"


@pytest.mark.parametrize(
    ("spec", "errors"),
    [
        ({"size": "-1"}, ['spec.resources[storage]: Invalid value: "-1": must be greater than zero']),
        (
            {"dataSource": {"kind": "Other", "name": "a"}},
            [
                "spec.dataSource: Invalid value: \"Other\": must be 'PersistentVolumeClaim' when referencing the "
                "default apiGroup"
            ],
        ),
        ({"accessModes": []}, ["spec.accessModes: Required value: at least 1 access mode is required"]),
    ],
)
def test_claim(spec: dict[str, Any], errors: list[str]) -> None:
    assert told(claims.claim(claim(**spec))) == errors


def test_report_about_a_claim() -> None:
    new = claim()
    new["status"] |= {
        "allocatedResourceStatuses": {"cpu": "NodeResizePending", "storage": "Soon"},
        "allocatedResources": {"e.x/y": "1", "memory": "1"},
    }
    assert told(claims.claim_status(new, claim())) == [
        'status.allocatedResourceStatus: Unsupported value: "cpu": supported values: "storage"',
        'status.allocatedResourceStatus: Unsupported value: "storage": supported values: "ControllerResizeInProgress", '
        '"ControllerResizeInfeasible", "NodeResizeInProgress", "NodeResizeInfeasible", "NodeResizePending"',
        'status.allocatedResources: Unsupported value: "memory": supported values: "storage"',
    ]


def volume(**spec: Any) -> Object:
    basis = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem"}
    source = {} if "csi" in spec else {"hostPath": {"path": "/a"}}
    return {"metadata": {"name": "a"}, "spec": {**basis, **source, **spec}}


def test_source_of_a_volume_stays() -> None:
    (error,) = told(storage.volume_update(volume(hostPath={"path": "/b"}), volume()))
    head, diff = error.split("\n", 1)
    assert head == "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation"
    assert [line for line in diff.splitlines() if line[0] in "+-"] == ['-  "Path": "/a",', '+  "Path": "/b",']


def test_secret_for_growing_may_come_later() -> None:
    driver = {"driver": "d", "volumeHandle": "h"}
    secret = {"controllerExpandSecretRef": {"name": "a", "namespace": "b"}}
    assert storage.volume_update(volume(csi=driver | secret), volume(csi=driver)) == []
    assert storage.volume_update(volume(csi=driver), volume(csi=driver | secret)) != []


def test_mode_and_place_of_a_volume_stay() -> None:
    place = {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}}
    other = {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "b", "operator": "Exists"}]}]}}
    errors = storage.volume_update(volume(volumeMode="Block", nodeAffinity=other), volume(nodeAffinity=place))
    shown = (
        '{"Required":{"NodeSelectorTerms":[{"MatchExpressions":[{"Key":"b","Operator":"Exists","Values":null}],'
        '"MatchFields":null}]}}'
    )
    assert told(errors) == [
        'volumeMode: Invalid value: "Block": field is immutable',
        f"nodeAffinity: Invalid value: {shown}: field is immutable, except for updating from beta label to GA",
    ]


def test_drivers_of_a_node_stay() -> None:
    def node(**driver: Any) -> Object:
        return {"spec": {"drivers": [{"name": "d", "nodeID": "n", **driver}]}}

    assert csi.csi_node_update(node(allocatable={"count": 3}), node()) == []
    shown = '{"Name":"d","NodeID":"m","TopologyKeys":null,"Allocatable":null}'
    assert told(csi.csi_node_update(node(nodeID="m"), node())) == [
        f"spec.drivers: Invalid value: {shown}: field is immutable"
    ]


def test_attachment_and_address_stay() -> None:
    def attached(node: str) -> Object:
        return {"spec": {"attacher": "e", "nodeName": node, "source": {"persistentVolumeName": "p"}}}

    shown = '{"Attacher":"e","Source":{"PersistentVolumeName":"p","InlineVolumeSpec":null},"NodeName":"m"}'
    assert told(storage.attachment_update(attached("m"), attached("n"))) == [
        f"spec: Invalid value: {shown}: field is immutable"
    ]

    def address(name: str) -> Object:
        return {"spec": {"parentRef": {"resource": "services", "namespace": "a", "name": name}}}

    shown = '{"Group":"","Resource":"services","Namespace":"a","Name":"y"}'
    assert told(networking.ip_address_update(address("y"), address("x"))) == [
        f"spec.parentRef: Invalid value: {shown}: field is immutable"
    ]


def _with_volume(source: Object) -> list[str]:
    return told(volumes.volumes("v", [{"name": "a", **source}], claims.claim_spec)[1])


@pytest.mark.parametrize(
    ("source", "errors"),
    [
        ({"emptyDir": {}, "cephfs": {}}, ["v[0].cephFS: Forbidden: may not specify more than 1 volume type"]),
        ({"emptyDir": {}, "downwardAPI": {}}, ["v[0].downwarAPI: Forbidden: may not specify more than 1 volume type"]),
        ({"gcePersistentDisk": {}}, ["v[0].persistentDisk.pdName: Required value"]),
        (
            {"awsElasticBlockStore": {"volumeID": "a", "partition": 256}},
            [
                "v[0].awsElasticBlockStore.partition: Invalid value: 256: must be between 1 and 255, inclusive",
            ],
        ),
        (
            {"secret": {"secretName": "a", "items": [{"key": "k", "path": "..x"}]}},
            ["v[0].secret.items[0].path: Invalid value: \"..x\": must not start with '..'"],
        ),
        ({"projected": {"sources": [{}]}}, []),
        (
            {"projected": {"sources": [{"serviceAccountToken": {"expirationSeconds": 600}}]}},
            ["v[0].projected.path: Required value"],
        ),
        (
            {
                "projected": {
                    "sources": [
                        {"configMap": {"name": "m", "items": [{"key": "k", "path": "p"}]}},
                        {"secret": {"name": "s", "items": [{"key": "k", "path": "p"}]}},
                    ]
                }
            },
            ['v[0].projected: Invalid value: "s": conflicting duplicate paths'],
        ),
        (
            {"flexVolume": {"driver": "d", "options": {"A.K8s.io/x": "y"}}},
            [
                'v[0].flexVolume.options[A.K8s.io/x]: Invalid value: "A.K8s.io/x": kubernetes.io and k8s.io '
                "namespaces are reserved"
            ],
        ),
    ],
)
def test_volume_of_a_pod(source: Object, errors: list[str]) -> None:
    assert _with_volume(source) == errors


@pytest.mark.parametrize(
    ("spec", "errors"),
    [
        ({}, []),
        (
            {"capacity": {"storage": "-1"}},
            [
                "spec.capacity[storage]: Invalid value: -1: must be a valid resource quantity",
                'spec.capacity[storage]: Invalid value: "-1": must be greater than zero',
            ],
        ),
        (
            {"local": {"path": "/a"}, "hostPath": None},
            ["spec.nodeAffinity: Required value: Local volume requires node affinity"],
        ),
        (
            {
                "csi": {
                    "driver": "d",
                    "volumeHandle": "h",
                    "nodeExpandSecretRef": {"name": "n"},
                    "nodeStageSecretRef": {},
                }
            },
            ["spec.csi.nodeExpandSecretRef.namespace: Required value"],
        ),
        (
            {"hostPath": {"path": "/a/.."}, "persistentVolumeReclaimPolicy": "Recycle"},
            [
                "spec.hostPath.path: Invalid value: \"/a/..\": must not contain '..'",
                "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'",
            ],
        ),
    ],
)
def test_volume(spec: Object, errors: list[str]) -> None:
    assert told(storage.volume(volume(**spec))) == errors


def test_volume_within_an_attachment() -> None:
    inline = {
        "capacity": {"storage": "1Gi"},
        "volumeMode": "Block",
        "storageClassName": "a",
        "hostPath": {"path": "/a"},
    }
    found = storage.attachment({"spec": {"attacher": "e", "nodeName": "n", "source": {"inlineVolumeSpec": inline}}})
    at, rest = "spec.source.inlineVolumeSpec", "in the context of inline volumes"
    assert told(found) == [
        f"{at}.capacity: Forbidden: may not be specified {rest}",
        f"{at}.csi: Required value: has to be specified {rest}",
        f"{at}.accessModes: Required value",
        f"{at}.storageClassName: Forbidden: may not be specified {rest}",
        f"{at}.volumeMode: Forbidden: may not specify volumeMode other than Filesystem {rest}",
    ]
