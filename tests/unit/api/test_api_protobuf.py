from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machinery.api import schema
from machinery.api.protobuf import codec, envelope, table, wire
from machinery.api.schema_types import definitions

SCHEMAS = schema.load()

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "p",
        "labels": {"b": "2", "a": ""},
        "creationTimestamp": "2024-05-01T10:00:00Z",
        "generation": 3,
        "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {".": {}}}, "time": "1969-12-31T23:59:59Z"}],
    },
    "spec": {
        "containers": [
            {
                "name": "c",
                "command": ["a", ""],
                "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": "500m"}},
                "livenessProbe": {"httpGet": {"port": "web", "path": "/"}, "timeoutSeconds": 1},
                "readinessProbe": {"tcpSocket": {"port": 8080}},
                "securityContext": {"runAsUser": -1, "privileged": False},
                "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}}],
            }
        ],
        "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}, {"name": "w", "configMap": {"name": "m"}}],
        "terminationGracePeriodSeconds": 0,
        "ephemeralContainers": [{"name": "e", "image": "i", "targetContainerName": "c", "resources": {}}],
    },
    "status": {"podIPs": [{"ip": "10.0.0.1"}]},
}


def round_trip(obj: Any) -> Any:
    group, _, version = obj["apiVersion"].rpartition("/")
    kind = SCHEMAS.of(group, version, obj["kind"])
    assert kind is not None
    decoded = kind.decode(envelope.decode(envelope.encode(obj)))
    assert (decoded.unknown, decoded.errors) == ((), ())
    return decoded.object


def test_a_pod_comes_back_as_it_was() -> None:
    assert round_trip(POD) == POD


def test_the_document_is_laid_out_as_clients_expect() -> None:
    data = envelope.encode({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k": "v"}})
    assert data == (
        b"k8s\x00\x0a\x0f\x0a\x02v1\x12\x09ConfigMap"  # typeMeta
        b"\x12\x0d\x0a\x03\x0a\x01c\x12\x06\x0a\x01k\x12\x01v"  # raw: metadata, data
        b"\x1a\x00\x22\x00"  # contentEncoding, contentType
    )


@pytest.mark.parametrize(
    "obj",
    [
        {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": "l"},
            "spec": {"renewTime": "2024-05-01T10:00:00.000001Z", "leaseDurationSeconds": 15},
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "s"},
            "data": {"a": "AAEC", "b": ""},
            "type": "Opaque",
        },
        {
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": {"name": "r"},
            "data": {"spec": {"x": [1, None, 2.5]}},
            "revision": 7,
        },
        {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"name": "c"},
            "spec": {"request": "YQ==", "signerName": "x/y", "extra": {"k": ["a", "b"]}},
            "status": {},
        },
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "w"},
            "spec": {
                "group": "x",
                "names": {"kind": "W", "plural": "w"},
                "scope": "Cluster",
                "versions": [
                    {
                        "name": "v1",
                        "served": True,
                        "storage": False,
                        "schema": {
                            "openAPIV3Schema": {
                                "type": "object",
                                "x-kubernetes-preserve-unknown-fields": True,
                                "maximum": 1.5,
                                "properties": {
                                    "l": {"type": "array", "items": {"type": "string"}, "default": ["a"]},
                                    "m": {"type": "object", "additionalProperties": True},
                                },
                            }
                        },
                    }
                ],
            },
            "status": {"acceptedNames": {"kind": "", "plural": ""}, "conditions": None, "storedVersions": None},
        },
    ],
)
def test_special_forms_come_back_as_they_were(obj: Any) -> None:
    assert round_trip(obj) == obj


def test_opaque_parts_are_text_as_go_writes_it() -> None:
    data = {"b": "<&>\u2028", "a": 1}
    revision = {"apiVersion": "apps/v1", "kind": "ControllerRevision", "data": data, "revision": 1}
    assert rb'{"b":"\u003c\u0026\u003e\u2028","a":1}' in envelope.encode(revision)
    assert round_trip(revision)["data"] == data


def test_times_of_early_years_are_spelled_with_four_digits() -> None:
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "l", "creationTimestamp": "0033-01-02T00:00:00Z"},
        "spec": {"acquireTime": "0001-01-01T00:00:02.000000Z", "renewTime": "0999-01-01T00:00:02.000005Z"},
    }
    assert envelope.decode(envelope.encode(lease)) == lease


def test_every_definition_has_its_message_and_every_message_can_be_compiled() -> None:
    missing = [n for n in definitions() if not table.has(table.message_of(n))]
    assert missing == ["io.k8s.apimachinery.pkg.version.Info"]
    for name in definitions():
        if name not in missing:
            assert callable(codec.encoder(table.message_of(name)))
            assert callable(codec.decoder(table.message_of(name)))


def test_a_list_is_made_of_items_already_written() -> None:
    pods = [POD, POD | {"metadata": {"name": "q"}}]
    data = envelope.encode_list("v1", "PodList", {"resourceVersion": "5"}, [envelope.encode_message(p) for p in pods])
    made = envelope.decode(data)
    assert made["metadata"] == {"resourceVersion": "5"}
    assert [p["metadata"]["name"] for p in made["items"]] == ["p", "q"]
    assert data == envelope.encode(
        {"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "5"}, "items": pods}
    )


def test_events_of_a_watch_are_framed() -> None:
    frames = bytearray()
    frames += envelope.watch_frame("ADDED", envelope.encode(POD))
    status = {"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 410}
    frames += envelope.watch_frame("ERROR", envelope.encode(status))
    tail = frames[-3:]
    del frames[-3:]
    assert [(e, o["metadata"]["name"]) for e, o in envelope.watch_events(frames)] == [("ADDED", "p")]
    frames += tail
    assert [(e, o["code"]) for e, o in envelope.watch_events(frames)] == [("ERROR", 410)]
    assert not frames


def test_kinds_without_a_message_are_refused() -> None:
    assert envelope.supports("meta.k8s.io/v1", "PartialObjectMetadata")
    assert not envelope.supports("x.example.com/v1", "Widget")
    with pytest.raises(envelope.UnsupportedKindError, match='no protobuf form of kind "Widget"'):
        envelope.encode({"apiVersion": "x.example.com/v1", "kind": "Widget"})


@pytest.mark.parametrize(
    "spoiled",
    [
        {"spec": {"containers": "x"}},
        {"spec": {"priority": "1"}},
        {"metadata": {"creationTimestamp": "now"}},
        {"metadata": {"name": 5}},
        {"spec": []},
    ],
)
def test_what_does_not_fit_its_message_is_refused(spoiled: Any) -> None:
    with pytest.raises(ValueError, match=r"(does not fit its protobuf message|not a time)"):
        envelope.encode(POD | spoiled)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{}", "does not appear to be a protobuf message"),
        (b"k8s\x00\x0a\x7f", "unexpected EOF"),
        (b"k8s\x00\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x02\x08\x01", "wrong wireType = 0 for field metadata"),
        (b"k8s\x00\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x02\x0f\x01", "wrong wireType = 7 for field metadata"),
        (b"k8s\x00\x0a\x09\x0a\x02v1\x12\x03Pod\x22\x01x", 'content type "x" inside protobuf'),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(wire.DecodeError, match=message):
        envelope.decode(data)


def test_unknown_fields_are_skipped_and_packed_lists_are_read() -> None:
    assert codec.decoder("core.v1.PodIP")(b"\x0a\x011\xfa\x01\x02ab\x90\x03\x01", 0) == {"ip": "1"}
    assert codec.decoder("core.v1.PodSecurityContext")(b"\x22\x03\x01\x02\x7f", 0) == {
        "supplementalGroups": [1, 2, 127]
    }


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        made = codec.decoder("core.v1.Pod")(data, 0)
    except wire.DecodeError:
        return
    assert isinstance(made, dict)


@given(st.integers(-(2**63), 2**63 - 1))
def test_integers_survive(number: int) -> None:
    value, at = wire.read_varint(wire.varint(number), 0)
    assert wire.signed(value) == number
    assert at == len(wire.varint(number))
