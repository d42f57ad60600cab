"""Certificates, tokens and the settings they come with."""

from __future__ import annotations

import base64
import hmac
import json
from datetime import timedelta

import jwt
import pytest
from controller_objects import ago, metadata

from controlplane.controllers import names, options
from controlplane.controllers.bootstraptokens import seconds_left, signature, signed
from controlplane.controllers.certificates import rules
from controlplane.controllers.hashing import content_hash, fnv1a
from controlplane.controllers.tokens import TYPE, TokenSigner, filled, is_unused
from machinery import pki
from machinery.api.meta import Object, format_time
from machinery.errors import SettingsError
from machinery.testing.clock import EPOCH

KEY = pki.new_key("ECDSA-P256")
KUBELET = ["digital signature", "client auth"]
SERVING = ["digital signature", "server auth"]


def csr(
    signer: str = rules.KUBELET_CLIENT,
    *,
    name: str = "system:node:w1",
    organizations: tuple[str, ...] = ("system:nodes",),
    alternatives: tuple[str, ...] = (),
    usages: list[str] | None = None,
) -> Object:
    pem = pki.make_request(KEY, name, organizations=organizations, names=alternatives)
    spec = {"request": base64.b64encode(pem).decode(), "signerName": signer, "usages": usages or KUBELET}
    return {"metadata": metadata("csr", ""), "spec": spec, "status": {}}


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (csr(), ""),
        (csr(usages=[*KUBELET, "key encipherment"]), ""),
        (csr(organizations=("system:masters",)), "subject organization is not system:nodes"),
        (csr(name="w1"), "subject common name does not begin with system:node:"),
        (csr(alternatives=("w1.example",)), "DNS subjectAltNames are not allowed"),
        (csr(alternatives=("10.0.0.1",)), "IP subjectAltNames are not allowed"),
        (csr(usages=["server auth"]), "usages did not match [client auth digital signature]"),
        (
            csr(rules.KUBELET_SERVING, usages=["digital signature", "server auth"]),
            "DNS or IP subjectAltName is required",
        ),
        (csr(rules.KUBELET_SERVING, alternatives=("w1",), usages=["digital signature", "server auth"]), ""),
        (csr(rules.CLIENT, name="anyone", organizations=()), ""),
        (csr(rules.CLIENT, usages=["server auth"]), "invalid usage for client certificate: server auth"),
        (
            csr(rules.CLIENT, usages=["digital signature"]),
            "missing required usage for client certificate: client auth",
        ),
        (csr(rules.LEGACY_UNKNOWN, name="anyone", usages=["any"]), ""),
    ],
)
def test_what_may_be_signed(asked: Object, error: str) -> None:
    assert rules.signing_error(asked, rules.request_of(asked)) == error


def test_lifetimes() -> None:
    asked = csr()
    year = timedelta(days=365)
    assert rules.lifetime(asked, year) == year
    asked["spec"]["expirationSeconds"] = 3600
    assert rules.lifetime(asked, year) == timedelta(hours=1)
    asked["spec"]["expirationSeconds"] = 1
    assert rules.lifetime(asked, year) == timedelta(minutes=10)


def test_requests_that_have_served_their_time() -> None:
    def with_condition(kind: str, age: float, certificate: str = "") -> Object:
        status: Object = {"conditions": [{"type": kind, "status": "True", "lastUpdateTime": ago(age)}]}
        return {**csr(), "status": status | ({"certificate": certificate} if certificate else {})}

    assert rules.is_over(with_condition("Denied", 3700), EPOCH)
    assert not rules.is_over(with_condition("Denied", 3500), EPOCH)
    assert not rules.is_over(with_condition("Approved", 3700), EPOCH)  # not issued yet
    assert rules.is_over(with_condition("Approved", 3700, "eA=="), EPOCH)
    assert not rules.is_over(csr(), EPOCH)
    assert rules.is_over(csr(), EPOCH + timedelta(hours=25))


def test_a_service_accounts_token() -> None:
    key = pki.new_key("RSA-2048")
    account = {"metadata": metadata("builder", "ns")}
    secret = {"metadata": metadata("tok", "ns", annotations={}), "type": TYPE}
    made = filled(secret, account, TokenSigner.of(key), b"CA")
    token = base64.b64decode(made["data"]["token"]).decode()
    claims = jwt.decode(token, key.public_key(), algorithms=["RS256"])
    assert claims["sub"] == "system:serviceaccount:ns:builder"
    assert claims["kubernetes.io/serviceaccount/secret.name"] == "tok"
    assert base64.b64decode(made["data"]["ca.crt"]) == b"CA"
    assert made["metadata"]["annotations"]["kubernetes.io/service-account.uid"] == account["metadata"]["uid"]
    assert filled(made, account, TokenSigner.of(key), b"CA") is made


def test_unused_tokens() -> None:
    secret = {"metadata": metadata("tok", labels={"kubernetes.io/legacy-token-last-used": "2025-12-01"})}
    day = timedelta(days=1)
    assert is_unused(secret, EPOCH - 400 * day, EPOCH, 30 * day)
    assert not is_unused(secret, EPOCH - 400 * day, EPOCH, 31 * day)
    assert not is_unused(secret, EPOCH - 10 * day, EPOCH, 30 * day)  # not tracked for long enough


def _data(**fields: str) -> dict[str, str]:
    return {name.replace("_", "-"): base64.b64encode(value.encode()).decode() for name, value in fields.items()}


def bootstrap(**more: str) -> Object:
    fields = {"token_id": "abcdef", "token_secret": "0123456789abcdef", "usage_bootstrap_signing": "true", **more}
    return {
        "metadata": metadata("bootstrap-token-abcdef", "kube-system"),
        "type": "bootstrap.kubernetes.io/token",
        "data": _data(**fields),
    }


def test_cluster_info_is_signed_by_valid_tokens() -> None:
    info = {"metadata": metadata("cluster-info", "kube-public"), "data": {"kubeconfig": "k", "jws-kubeconfig-old": "x"}}
    made = signed(info, [bootstrap()], EPOCH)
    assert set(made["data"]) == {"kubeconfig", "jws-kubeconfig-abcdef"}
    detached = made["data"]["jws-kubeconfig-abcdef"]
    header, empty, mac_text = detached.split(".")
    assert json.loads(base64.urlsafe_b64decode(header + "==")) == {"alg": "HS256", "kid": "abcdef"}
    assert empty == ""
    content = f"{header}.{base64.urlsafe_b64encode(b'k').rstrip(b'=').decode()}".encode()
    mac = hmac.new(b"0123456789abcdef", content, "sha256").digest()
    assert base64.urlsafe_b64decode(mac_text + "=") == mac
    expired = bootstrap(expiration=format_time(EPOCH - timedelta(seconds=1)))
    assert set(signed(info, [expired], EPOCH)["data"]) == {"kubeconfig"}
    assert seconds_left(expired, EPOCH) == -1.0
    assert signature("k", "abcdef", "0123456789abcdef") == detached


def test_hashes() -> None:
    assert fnv1a(b"") == 0x811C9DC5
    assert fnv1a(b"foobar") == 0xBF9CF968
    assert content_hash({"a": None, "b": [], "labels": {}}) == content_hash({})
    assert content_hash({"emptyDir": {}}) != content_hash({})
    assert content_hash({}, 1) != content_hash({}, 2)


# -- settings --------------------------------------------------------------------------------------------------------


def test_which_controllers_run() -> None:
    known = ["job-controller", "deployment-controller", "token-cleaner-controller"]
    assert names.choose(["*"], known) == {"job-controller", "deployment-controller"}
    assert names.choose(["*", "-job", "tokencleaner"], known) == {"deployment-controller", "token-cleaner-controller"}
    assert names.choose(["job-controller"], known) == {"job-controller"}
    with pytest.raises(SettingsError, match='"nonsense" is not in the list of known controllers'):
        names.choose(["nonsense"], known)
    with pytest.raises(SettingsError, match="cloud controller manager"):
        names.choose(["service-lb-controller"], known)
    with pytest.raises(SettingsError, match="not implemented"):
        names.choose(["selinux-warning-controller"], known)
    gated = [
        "*",
        "-selinux-warning-controller",
        "storageversion-garbage-collector-controller",
        "-podcertificaterequest-cleaner-controller",
    ]
    assert names.choose(gated, known) == {"job-controller", "deployment-controller"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nonsense"], "--nonsense"),
        (["--allocate-node-cidrs"], "--cluster-cidr"),
        (["--cluster-cidr=10.0.0.0/8,10.1.0.0/16"], "at most one network of each IP family"),
        (["--cluster-cidr=10.0.0.0/26"], "--node-cidr-mask-size-ipv4: 24 does not fit"),
        (["--cluster-cidr=10.0.0.0/7", "--node-cidr-mask-size=24"], "more than 65,536 node networks"),
        (["--cluster-cidr=somewhere"], "--cluster-cidr"),
        (["--cluster-signing-cert-file=x"], "--cluster-signing-key-file go together"),
        (["--concurrent-job-syncs=0"], "--concurrent-job-syncs"),
        (["--enable-hostpath-provisioner"], "--enable-hostpath-provisioner"),
        (["--cloud-provider=gce"], "--cloud-provider"),
    ],
)
def test_settings_that_can_not_work_are_refused_by_name(arguments: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        options.parse(arguments)


def test_settings_of_a_usual_cluster() -> None:
    parsed = options.parse(
        [
            "--allocate-node-cidrs=true",
            "--authentication-kubeconfig=/etc/kubernetes/controller-manager.conf",
            "--authorization-kubeconfig=/etc/kubernetes/controller-manager.conf",
            "--bind-address=127.0.0.1",
            "--client-ca-file=/etc/kubernetes/pki/ca.crt",
            "--cluster-cidr=10.244.0.0/16,fd00::/56",
            "--cluster-name=kubernetes",
            "--cluster-signing-cert-file=/etc/kubernetes/pki/ca.crt",
            "--cluster-signing-key-file=/etc/kubernetes/pki/ca.key",
            "--controllers=*,bootstrapsigner,tokencleaner",
            "--kubeconfig=/etc/kubernetes/controller-manager.conf",
            "--leader-elect=true",
            "--requestheader-client-ca-file=/etc/kubernetes/pki/front-proxy-ca.crt",
            "--root-ca-file=/etc/kubernetes/pki/ca.crt",
            "--service-account-private-key-file=/etc/kubernetes/pki/sa.key",
            "--service-cluster-ip-range=10.96.0.0/12",
            "--use-service-account-credentials=true",
        ]
    )
    four, six = parsed["cluster-cidr"]
    assert (parsed.node_mask_size(four), parsed.node_mask_size(six)) == (24, 64)
    assert parsed.authority("kubelet-client") == ("/etc/kubernetes/pki/ca.crt", "/etc/kubernetes/pki/ca.key")
    assert parsed.concurrent("job") == 5
