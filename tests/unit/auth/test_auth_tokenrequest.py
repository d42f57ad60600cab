"""serviceaccounts/NAME/token, TokenReview, SelfSubjectReview."""

from __future__ import annotations

from typing import Any

import jwt
import pytest
from auth_store import ADMIN, Store, named
from cryptography.hazmat.primitives.asymmetric import ec

from controlplane.apiserver.authn.chain import Tokens
from controlplane.apiserver.authn.issuer import TokenIssuer
from controlplane.apiserver.authn.keys import verification_key
from controlplane.apiserver.authn.reviews import TokenReviews, self_subject_review
from controlplane.apiserver.authn.serviceaccount import ServiceAccountTokens
from controlplane.apiserver.authn.tokenrequest import TokenRequests
from controlplane.apiserver.handlers.contract import Call
from controlplane.apiserver.request import User
from machinery.api.catalogue import NODES, PODS, SECRETS, SELFSUBJECTREVIEWS, SERVICEACCOUNTS, TOKENREVIEWS
from machinery.api.meta import Object
from machinery.api.resource import ResourceType
from machinery.errors import BadRequest, Conflict, Invalid, NotFound
from machinery.testing.clock import FakeClock

ISSUER = "https://kubernetes.default.svc"
KEY = ec.generate_private_key(ec.SECP256R1())
NOW = "2026-01-01T00:00:00Z"


def world() -> Store:
    store = Store()
    store.put(SERVICEACCOUNTS, named("robot", "x"))
    store.put(SERVICEACCOUNTS, named("other", "x"))
    store.put(NODES, named("w1"))
    store.put(PODS, named("p", "x", spec={"serviceAccountName": "robot", "nodeName": "w1"}))
    store.put(PODS, named("q", "x", spec={"serviceAccountName": "robot", "nodeName": "gone"}))
    store.put(SECRETS, named("s", "x"))
    return store


def call(spec: Object, name: str = "robot", resource: ResourceType = SERVICEACCOUNTS, user: User = ADMIN) -> Call:
    body: Object = {"kind": "TokenRequest", "metadata": {}, "spec": spec}
    return Call(user, resource, "token", "x", name, body, NOW)


def requests(store: Store, **rest: Any) -> TokenRequests:
    return TokenRequests(TokenIssuer(ISSUER, KEY), store, FakeClock(), (ISSUER,), **rest)


def claims(answer: Object) -> dict[str, Any]:
    decoded: dict[str, Any] = jwt.decode(answer["status"]["token"], options={"verify_signature": False})
    return decoded


async def test_a_plain_token_lives_an_hour_for_this_server() -> None:
    store = world()
    answer = await requests(store)(call({}))
    assert answer["spec"] == {"audiences": [ISSUER], "expirationSeconds": 3600, "boundObjectRef": None}
    assert answer["metadata"]["name"] == "robot"
    assert answer["status"]["expirationTimestamp"] == "2026-01-01T01:00:00Z"
    assert claims(answer)["exp"] - claims(answer)["iat"] == 3600


async def test_the_kubelets_tokens_live_a_year_and_say_when_they_should_have_been_renewed() -> None:
    answer = await requests(world())(call({"expirationSeconds": 3607}))
    told = claims(answer)
    assert told["exp"] - told["iat"] == 31536000
    assert told["kubernetes.io"]["warnafter"] - told["iat"] == 3607
    assert answer["status"]["expirationTimestamp"] == "2026-01-01T01:00:07Z"
    foreign = claims(await requests(world())(call({"expirationSeconds": 3607, "audiences": ["vault"]})))
    assert foreign["exp"] - foreign["iat"] == 3607
    plain = claims(await requests(world(), extend=False)(call({"expirationSeconds": 3607})))
    assert plain["exp"] - plain["iat"] == 3607


async def test_a_token_of_a_pod_names_its_node() -> None:
    store = world()
    pod = store.get(PODS, "x", "p")
    assert pod is not None
    reference = {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": pod["metadata"]["uid"]}
    told = claims(await requests(store)(call({"boundObjectRef": reference})))["kubernetes.io"]
    assert told["pod"] == {"name": "p", "uid": pod["metadata"]["uid"]}
    assert told["node"]["name"] == "w1"
    told = claims(await requests(store)(call({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "q"}})))
    assert told["kubernetes.io"]["node"] == {"name": "gone"}


async def test_tokens_of_nodes_and_secrets() -> None:
    for kind, name, claim in (("Node", "w1", "node"), ("Secret", "s", "secret")):
        reference = {"kind": kind, "apiVersion": "v1", "name": name}
        told = claims(await requests(world())(call({"boundObjectRef": reference})))["kubernetes.io"]
        assert told[claim]["name"] == name


@pytest.mark.parametrize(
    ("spec", "name", "error", "message"),
    [
        ({}, "none", NotFound, 'serviceaccounts "none" not found'),
        (
            {"expirationSeconds": 60},
            "robot",
            Invalid,
            'TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: 60: '
            "may not specify a duration less than 10 minutes",
        ),
        (
            {"expirationSeconds": 1 << 33},
            "robot",
            Invalid,
            'TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: 8589934592: '
            "may not specify a duration larger than 2^32 seconds",
        ),
        (
            {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p"}},
            "other",
            BadRequest,
            'cannot bind token for serviceaccount "other" to pod running with different serviceaccount name.',
        ),
        (
            {"boundObjectRef": {"kind": "ConfigMap", "apiVersion": "v1", "name": "p"}},
            "robot",
            BadRequest,
            "cannot bind token to object of type /v1, Kind=ConfigMap",
        ),
        (
            {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "u"}},
            "robot",
            Conflict,
            'Operation cannot be fulfilled on Pod "p": the UID in the bound object reference (u) does not match '
            "the UID in record. The object might have been deleted and then recreated",
        ),
    ],
)
async def test_what_is_refused(spec: Object, name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as refused:
        await requests(world())(call(spec, name))
    assert str(refused.value) == message


async def test_a_limit_shortens_and_warns() -> None:
    asked = call({"expirationSeconds": 7200})
    answer = await requests(world(), max_seconds=3600)(asked)
    assert answer["spec"]["expirationSeconds"] == 3600
    assert asked.warnings == ["requested expiration of 7200 seconds shortened to 3600 seconds"]


async def test_a_review_of_such_a_token() -> None:
    store = world()
    verifier = ServiceAccountTokens([verification_key(KEY.public_key())], [ISSUER], (ISSUER,), store, FakeClock())
    reviews = TokenReviews(Tokens([verifier], (ISSUER,)))
    token = (await requests(store)(call({"audiences": [ISSUER, "vault"]})))["status"]["token"]
    status = (await reviews(call({"token": token, "audiences": ["vault"]}, resource=TOKENREVIEWS)))["status"]
    assert status["authenticated"] is True
    assert status["audiences"] == ["vault"]
    assert status["user"]["username"] == "system:serviceaccount:x:robot"
    status = (await reviews(call({"token": "nonsense"}, resource=TOKENREVIEWS)))["status"]
    assert status == {"user": {}, "error": "invalid bearer token"}
    with pytest.raises(BadRequest, match="token is required"):
        await reviews(call({}, resource=TOKENREVIEWS))


async def test_who_am_i() -> None:
    user = User("jane", "u", ("dev",), {"scopes": ("a", "b")})
    answer = await self_subject_review(call({}, resource=SELFSUBJECTREVIEWS, user=user))
    assert answer["metadata"] == {"creationTimestamp": NOW}
    info = {"username": "jane", "uid": "u", "groups": ["dev"], "extra": {"scopes": ["a", "b"]}}
    assert answer["status"] == {"userInfo": info}
