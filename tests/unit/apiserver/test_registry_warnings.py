"""What writers of pods and Services are warned of."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from controlplane.apiserver.registry import strategy_for
from controlplane.apiserver.registry.strategy import Context
from controlplane.apiserver.registry.warnings import others
from controlplane.apiserver.registry.warnings import pods as warnings
from machinery.api.catalogue import ENDPOINTS, NODES, PODS, SECRETS, SERVICES
from machinery.api.meta import Object


def pod(annotations: Object | None = None, **spec: Any) -> Object:
    made: Object = {
        "metadata": {"name": "p", "annotations": annotations or {}},
        "spec": {"containers": [{"name": "c", "image": "i"}], **spec},
    }
    strategy_for(PODS).default(made)
    return made


def ports(*listed: Object) -> Object:
    return {"containers": [{"name": f"c{i}", "image": "i", "ports": [port]} for i, port in enumerate(listed)]}


def files(*paths: str) -> Object:
    return {"items": [{"key": "k", "path": path} for path in paths]}


AT = "spec.containers[1].ports[0]"
FIRST = "spec.containers[0].ports[0]"
SECCOMP = "seccomp.security.alpha.kubernetes.io/pod"
CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (pod(**ports({"containerPort": 1}, {"containerPort": 1})), [f"{AT}: duplicate port definition with {FIRST}"]),
        (
            pod(**ports({"containerPort": 1}, {"containerPort": 1, "hostPort": 2})),
            [f"{AT}: overlapping port definition with {FIRST}"],
        ),
        (
            pod(**ports({"containerPort": 1, "hostPort": 2}, {"containerPort": 1, "hostPort": 2, "hostIP": "1.1.1.1"})),
            [f"{AT}: dangerously ambiguous port definition with {FIRST}"],
        ),
        (
            pod(**ports({"name": "n", "containerPort": 1, "hostIP": "1.1.1.1"})),
            [
                f"{FIRST}: hostIP set without hostPort: {{Name:n HostPort:0 ContainerPort:1 Protocol:TCP "
                f"HostIP:1.1.1.1}}"
            ],
        ),
        (
            pod(volumes=[{"name": "v", "configMap": {"name": "m", **files("a", "a/b")}}]),
            ['volume "v" (ConfigMap "m"): overlapping paths: "a/b" with "a"'],
        ),
        (
            pod(volumes=[{"name": "v", "projected": {"sources": [
                {}, {"secret": {"name": "s", **files("t")}}, {"serviceAccountToken": {"path": "t/u"}},
            ]}}]),
            [
                'volume "v" (Projected) has no sources provided',
                'volume "v" (Projected ServiceAccountToken): overlapping paths: "t/u" with "t"',
            ],
        ),
        (pod({"scheduler.alpha.kubernetes.io/critical-pod": ""}), [
            "metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the "
            '"priorityClassName" field instead'
        ]),
        (pod({f"{CONTAINER}c": "unconfined", f"{CONTAINER}other": "unconfined"}), [
            f'metadata.annotations[{CONTAINER}c]: non-functional in v1.27+; use the "seccompProfile" field instead'
        ]),
        (pod({SECCOMP: "unconfined"}, securityContext={"seccompProfile": {"type": "Unconfined"}}), []),
        (
            pod(topologySpreadConstraints=[{"topologyKey": "beta.kubernetes.io/os", "labelSelector": {}}]),
            [
                "spec.topologySpreadConstraints[0].topologyKey: beta.kubernetes.io/os is deprecated since v1.14; use "
                '"kubernetes.io/os" instead'
            ],
        ),
        (pod(imagePullSecrets=[{"name": ""}, {"name": ""}]), [
            'spec.imagePullSecrets[1].name: duplicate name ""',
            'spec.imagePullSecrets[0].name: invalid empty name ""',
            'spec.imagePullSecrets[1].name: invalid empty name ""',
        ]),
        (pod(containers=[{"name": "c", "image": "i", "env": [
            {"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}, {"name": "A", "value": "$(A)"},
        ]}]), ['spec.containers[0].env[2]: hides previous definition of "A", which may be dropped when using apply']),
    ],
)  # fmt: skip
def test_pods(made: Object, told: list[str]) -> None:
    assert warnings.pod(made, None) == told


APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/c"
INSTEAD = f'metadata.annotations[{APP_ARMOR}]: deprecated since v1.30; use the "appArmorProfile" field instead'


@pytest.mark.parametrize(
    ("annotation", "of_pod", "profile", "told"),
    [
        ("unconfined", {}, {"type": "Unconfined"}, [INSTEAD]),
        ("unconfined", {"appArmorProfile": {"type": "Unconfined"}}, None, []),
        ("", {}, None, [INSTEAD]),
    ],
)
def test_an_annotation_becomes_a_field(annotation: str, of_pod: Object, profile: Any, told: list[str]) -> None:
    made = pod({APP_ARMOR: annotation}, securityContext=of_pod)
    context = Context(None, None, "")  # type: ignore[arg-type]
    strategy_for(PODS).prepare_create(made, context)
    assert made["spec"]["containers"][0].get("securityContext", {}).get("appArmorProfile") == profile
    assert context.warnings == told
    assert warnings.pod(made, None) == []


def test_a_field_is_not_written_as_an_annotation() -> None:
    made = pod(securityContext={"appArmorProfile": {"type": "Unconfined"}})
    strategy_for(PODS).prepare_create(made, Context(None, None, ""))  # type: ignore[arg-type]
    assert not made["metadata"]["annotations"]


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"clusterIP": "2001:DB8::1", "clusterIPs": ["2001:DB8::1"]}, [
            'spec.clusterIPs[0]: IPv6 address "2001:DB8::1" should be in RFC 5952 canonical format ("2001:db8::1")'
        ]),
        ({"externalIPs": ["1.2.3.4"]}, [
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
        ]),
        ({"type": "ExternalName", "externalName": "x", "externalIPs": ["1.2.3.4"]}, [
            'spec.externalIPs is ignored when spec.type is "ExternalName"'
        ]),
        ({"loadBalancerIP": "010.0.0.1"}, [
            'spec.loadBalancerIP: non-standard IP address "010.0.0.1" will be considered invalid in a future '
            'Kubernetes '
            'release: use "10.0.0.1"'
        ]),
        ({"loadBalancerSourceRanges": ["2001:DB8::/64"]}, [
            'spec.loadBalancerSourceRanges[0]: IPv6 CIDR value "2001:DB8::/64" should be in RFC 5952 canonical format '
            '("2001:db8::/64")'
        ]),
        ({"trafficDistribution": "PreferClose"}, [
            'spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"'
        ]),
    ],
)  # fmt: skip
def test_services(spec: Object, told: list[str]) -> None:
    made: Object = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 1}], **spec}}
    strategy_for(SERVICES).default(made)
    assert others.service(made, None) == told


def test_addresses_of_endpoints_and_nodes_are_written_in_one_way() -> None:
    canonical = 'should be in RFC 5952 canonical format ("2001:db8::1")'
    made: Object = {"metadata": {}, "subsets": [{"notReadyAddresses": [{"ip": "2001:db8:0::1"}]}]}
    assert strategy_for(ENDPOINTS).warnings(made, None) == [
        f'subsets[0].notReadyAddresses[0].ip: IPv6 address "2001:db8:0::1" {canonical}'
    ]
    made["metadata"]["labels"] = {"endpoints.kubernetes.io/managed-by": "endpoint-controller"}
    assert strategy_for(ENDPOINTS).warnings(made, None) == []
    (told,) = strategy_for(NODES).warnings({"spec": {"podCIDRs": ["2001:db8:0::/64"]}}, None)
    assert told.startswith("spec.podCIDRs[0]: ")


def self_signed(key: Any) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, moment, moment)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def pem(key: Any) -> bytes:
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))


def test_a_certificate_and_its_key_go_together() -> None:
    one, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    another = rsa.generate_private_key(65537, 1024)
    certificate = self_signed(one)
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    public = b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"
    headed = b"-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END EC PRIVATE KEY-----\n"
    for given, key, told in (
        (certificate, pem(one), ""),
        (b"text\n" + pem(another) + certificate + broken, public + pem(one), ""),
        (certificate, pem(other), "tls: private key does not match public key"),
        (certificate, pem(another), "tls: private key type does not match public key type"),
        (b"", b"", "tls: failed to find any PEM data in certificate input"),
        (certificate, b"x", "tls: failed to find any PEM data in key input"),
        (pem(one), certificate, "but did find a private key; PEM inputs may have been switched"),
        (certificate, certificate, "tls: found a certificate rather than a key in the PEM for the private key"),
        (certificate, public, "after skipping PEM blocks of the following types: [PUBLIC KEY]"),
        (public, b"", "after skipping PEM blocks of the following types: [PUBLIC KEY]"),
        (broken, pem(one), "x509: malformed certificate"),
        (certificate, headed, "tls: failed to parse private key"),
    ):
        data = {"tls.crt": base64.b64encode(given).decode(), "tls.key": base64.b64encode(key).decode()}
        found = strategy_for(SECRETS).warnings({"type": "kubernetes.io/tls", "data": data}, None)
        assert [bool(told)] * len(found) == ([True] if told else []), (told, found)
        assert not told or told in found[0]
    assert strategy_for(SECRETS).warnings({"type": "Opaque", "data": {}}, None) == []
