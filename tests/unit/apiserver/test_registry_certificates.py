"""CertificateSigningRequests: who asks, what they ask for, what is decided."""

import base64
from collections.abc import Iterable
from typing import Any

import pytest

from controlplane.apiserver.reader import OnChange, Reader
from controlplane.apiserver.registry.kinds.certificates import STRATEGIES, prepare_approval
from controlplane.apiserver.registry.strategy import Context
from controlplane.apiserver.registry.validation import certificates as rules
from controlplane.apiserver.request import User
from machinery import pki
from machinery.api.catalogue import CERTIFICATESIGNINGREQUESTS
from machinery.api.meta import Object
from machinery.api.resource import ResourceType

STRATEGY = STRATEGIES[CERTIFICATESIGNINGREQUESTS]
_KEY = pki.new_key("ECDSA-P256")
REQUEST = base64.b64encode(pki.make_request(_KEY, "somebody")).decode()
CERTIFICATE = base64.b64encode(pki.make_authority("ca", algorithm="ECDSA-P256").certificate_pem).decode()
SIGNER_FORM = "must be a fully qualified domain and path of the form 'example.com/signer-name'"


class NoObjects(Reader):
    """Nothing is stored."""

    def get(self, resource: ResourceType, namespace: str, name: str) -> Object | None:
        return None

    def list(self, resource: ResourceType, namespace: str = "") -> Iterable[Object]:
        return ()

    def on_change(self, resource: ResourceType, callback: OnChange, *, holding: str = "") -> None:
        pass

    async def get_latest(self, resource: ResourceType, namespace: str, name: str) -> Object | None:
        return None


def context(user: User | None = None) -> Context:
    return Context(user or User("u"), NoObjects(), "2030-01-01T00:00:00Z")


def request(**changes: Any) -> Object:
    spec = {"request": REQUEST, "signerName": "example.com/x", "usages": ["client auth"], **changes}
    return {"metadata": {"name": "r"}, "spec": spec, "status": {}}


def condition(kind: str, **rest: str) -> Object:
    return {"type": kind, "status": "True"} | rest


def decided(*conditions: Object, certificate: str = "") -> Object:
    status: Object = {"conditions": list(conditions)} if conditions else {}
    return request() | {"status": status | ({"certificate": certificate} if certificate else {})}


def test_the_server_writes_down_who_asks() -> None:
    new = request(username="liar", groups=["system:masters"], extra={"a": ["b"]}) | {"status": {"certificate": "Yw=="}}
    STRATEGY.prepare_create(new, context(User("jane", "7", ("g",), {"k": ("v",)})))
    asker = {key: new["spec"][key] for key in ("username", "uid", "groups", "extra")}
    assert asker == {"username": "jane", "uid": "7", "groups": ["g"], "extra": {"k": ["v"]}}
    assert new["status"] == {}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, []),
        ({"request": "bm8="}, ['spec.request: Invalid value: "bm8=": PEM block type must be CERTIFICATE REQUEST']),
        ({"usages": []}, ["spec.usages: Required value"]),
        ({"usages": ["signing", "signing"]}, ['spec.usages[1]: Duplicate value: "signing"']),
        ({"signerName": ""}, ["spec.signerName: Required value"]),
        ({"signerName": "x"}, [f'spec.signerName: Invalid value: "x": {SIGNER_FORM}']),
        (
            {"signerName": "com/x"},
            ['spec.signerName: Invalid value: "com": should be a domain with at least two segments separated by dots'],
        ),
        (
            {"signerName": "kubernetes.io/legacy-unknown"},
            [
                'spec.signerName: Invalid value: "kubernetes.io/legacy-unknown": the legacy signerName is not allowed '
                "via this API version"
            ],
        ),
        (
            {"expirationSeconds": 599},
            [
                "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds "
                "(10 minutes)"
            ],
        ),
    ],
)
def test_what_may_be_asked_for(changes: Any, told: list[str]) -> None:
    assert [str(error) for error in STRATEGY.validate(request(**changes))] == told


def test_an_unknown_usage_is_told_with_the_known_ones() -> None:
    (error,) = STRATEGY.validate(request(usages=["magic"]))
    assert str(error).startswith('spec.usages[0]: Unsupported value: "magic": supported values: "any", "cert sign", ')


def test_an_approval_changes_nothing_but_conditions() -> None:
    old = request() | {"status": {"certificate": "Yw==", "conditions": [condition("Custom", lastTransitionTime="t")]}}
    new: Object = {"metadata": {"name": "r"}, "spec": {}, "status": {"conditions": [condition("Approved")]}}
    new["status"]["conditions"].append(condition("Custom"))
    prepare_approval(new, old, context())
    assert new["spec"] == old["spec"]
    assert new["status"]["certificate"] == "Yw=="
    approved, custom = new["status"]["conditions"]
    assert approved["lastUpdateTime"] == approved["lastTransitionTime"] == "2030-01-01T00:00:00Z"
    assert custom["lastTransitionTime"] == "t"


def test_a_signer_can_not_reword_a_decision() -> None:
    old = decided(condition("Approved", reason="old"))
    new = decided(condition("Approved", reason="new"), condition("Failed"))
    STRATEGY.prepare_status_update(new, old, context())
    approved, failed = new["status"]["conditions"]
    assert approved["reason"] == "old"
    assert failed["lastUpdateTime"] == "2030-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ([], [condition("Approved")], []),
        (
            [condition("Approved")],
            [condition("Approved"), condition("Denied")],
            ['status.conditions: Invalid value: "Denied": Approved and Denied conditions are mutually exclusive'],
        ),
        (
            [condition("Approved")],
            [],
            ['status.conditions: Forbidden: updates may not remove a condition of type "Approved"'],
        ),
        ([], [{"type": "Denied"}], ["status.conditions[0].status: Required value"]),
        (
            [],
            [{"type": "Denied", "status": "False"}],
            ['status.conditions[0].status: Unsupported value: "False": supported values: "True"'],
        ),
        ([], [{"status": "True"}], ["status.conditions[0].type: Required value"]),
        ([], [condition("A"), condition("A")], ['status.conditions[1].type: Duplicate value: "A"']),
    ],
)
def test_a_decision_stands(before: list[Object], after: list[Object], told: list[str]) -> None:
    assert [str(error) for error in rules.approval_update(decided(*after), decided(*before))] == told


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("", CERTIFICATE, []),
        (
            "",
            "bm90IGEgY2VydA==",
            [
                'status.certificate: Invalid value: "<certificate data>": must contain at least one CERTIFICATE PEM '
                "block"
            ],
        ),
        (
            "",
            REQUEST,
            [
                'status.certificate: Invalid value: "<certificate data>": only CERTIFICATE PEM blocks are allowed, '
                'found "CERTIFICATE REQUEST"'
            ],
        ),
        (
            CERTIFICATE,
            "",
            ["status.certificate: Forbidden: updates may not modify existing certificate content"],
        ),
    ],
)
def test_a_certificate_is_issued_once(before: str, after: str, told: list[str]) -> None:
    errors = rules.status_update(decided(certificate=after), decided(certificate=before))
    assert [str(error) for error in errors] == told


def test_only_signers_issue_and_only_approvers_decide() -> None:
    errors = rules.approval_update(decided(certificate=CERTIFICATE), decided())
    assert [str(e) for e in errors] == ["status.certificate: Forbidden: updates may not set certificate content"]
    errors = rules.status_update(decided(condition("Denied")), decided())
    assert [str(e) for e in errors] == [
        'status.conditions: Forbidden: updates may not add a condition of type "Denied"'
    ]


def test_a_request_is_signed_with_its_own_key() -> None:
    armour = base64.b64decode(REQUEST).splitlines()
    der = base64.b64decode(b"".join(armour[1:-1])).replace(b"somebody", b"anybody!")
    pem = b"\n".join([armour[0], base64.b64encode(der), armour[-1], b""])
    (error,) = STRATEGY.validate(request(request=base64.b64encode(pem).decode()))
    assert str(error).endswith(": x509: ECDSA verification failure")
