"""Bearer tokens: static, bootstrap, service accounts; what a bad one does to a request."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import jwt
import pytest
from auth_store import Store, named
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from multidict import CIMultiDict

from controlplane.apiserver.authn.bootstraptoken import BootstrapTokens
from controlplane.apiserver.authn.chain import Chain, Tokens
from controlplane.apiserver.authn.issuer import TokenIssuer, discovery_document, key_set
from controlplane.apiserver.authn.keys import (
    PrivateKey,
    load_signing_key,
    load_verification_keys,
    verification_key,
)
from controlplane.apiserver.authn.serviceaccount import ServiceAccountTokens
from controlplane.apiserver.authn.tokenfile import TokenFile
from controlplane.apiserver.request import ANONYMOUS, Credentials, User
from machinery import pki
from machinery.api.catalogue import NODES, PODS, SECRETS, SERVICEACCOUNTS
from machinery.api.meta import Object
from machinery.errors import SettingsError, Unauthorized
from machinery.testing.clock import FakeClock

ISSUER = "https://kubernetes.default.svc"
RSA = rsa.generate_private_key(65537, 2048)
CURVE = ec.generate_private_key(ec.SECP256R1())


class World:
    """A service account with a pod on a node, an issuer and a verifier."""

    def __init__(self, key: PrivateKey = CURVE, api_audiences: tuple[str, ...] = (ISSUER,)) -> None:
        self.store = Store()
        self.clock = FakeClock()
        self.account = self.store.put(SERVICEACCOUNTS, named("robot", "x"))
        self.node = self.store.put(NODES, named("w1"))
        self.pod = self.store.put(PODS, named("p", "x", spec={"serviceAccountName": "robot", "nodeName": "w1"}))
        self.issuer = TokenIssuer(ISSUER, key)
        keys = [verification_key(key.public_key())]
        self.verifier = ServiceAccountTokens(keys, [ISSUER], api_audiences, self.store, self.clock)

    def token(self, *bound: tuple[str, Object], audiences: tuple[str, ...] = (ISSUER,), seconds: int = 600) -> str:
        now = int(self.clock.now().timestamp())
        return self.issuer.issue(self.account, audiences=audiences, now=now, seconds=seconds, bound=bound)

    async def user(self, token: str, *audiences: str) -> User | None:
        return await self.verifier.authenticate_token(token, audiences)


@pytest.mark.parametrize("key", [RSA, CURVE, ec.generate_private_key(ec.SECP384R1())])
async def test_a_token_tells_its_service_account(key: PrivateKey) -> None:
    world = World(key)
    token = world.token()
    claims = jwt.decode(token, options={"verify_signature": False})
    assert await world.user(token) == User(
        "system:serviceaccount:x:robot",
        world.account["metadata"]["uid"],
        ("system:serviceaccounts", "system:serviceaccounts:x"),
        {"authentication.kubernetes.io/credential-id": (f"JTI={claims['jti']}",)},
    )
    assert claims["exp"] - claims["iat"] == 600
    assert jwt.get_unverified_header(token)["kid"] == verification_key(key.public_key()).key_id


async def test_a_token_of_a_pod_tells_pod_and_node_and_dies_with_the_pod() -> None:
    world = World()
    token = world.token(("pod", world.pod), ("node", world.node))
    user = await world.user(token)
    assert user is not None
    assert user.extra["authentication.kubernetes.io/pod-name"] == ("p",)
    assert user.extra["authentication.kubernetes.io/pod-uid"] == (world.pod["metadata"]["uid"],)
    assert user.extra["authentication.kubernetes.io/node-name"] == ("w1",)
    world.store.drop(PODS, "x", "p")
    with pytest.raises(Unauthorized, match=r"^service account token has been invalidated$"):
        await world.user(token)
    world.store.put(PODS, named("p", "x"))
    with pytest.raises(Unauthorized, match=r"^pod UID \(.*\) does not match service account pod ref claim \(.*\)$"):
        await world.user(token)


async def test_a_token_dies_with_its_account() -> None:
    world = World()
    token = world.token()
    assert await world.user(token) is not None
    world.store.drop(SERVICEACCOUNTS, "x", "robot")
    with pytest.raises(Unauthorized):
        await world.user(token)
    world.store.put(SERVICEACCOUNTS, named("robot", "x"))
    with pytest.raises(Unauthorized, match="service account UID"):
        await world.user(token)


async def test_a_token_expires() -> None:
    world = World()
    token = world.token(seconds=600)
    await world.clock.advance(659)  # clocks may differ by a minute
    assert await world.user(token) is not None
    await world.clock.advance(2)
    with pytest.raises(Unauthorized, match="expired"):
        await world.user(token)


async def test_an_account_that_is_going_has_a_minute() -> None:
    world = World()
    token = world.token()
    going = world.account["metadata"] | {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    world.store.put(SERVICEACCOUNTS, world.account | {"metadata": going})
    assert await world.user(token) is not None
    await world.clock.advance(61)
    with pytest.raises(Unauthorized, match="has been deleted"):
        await world.user(token)


async def test_audiences_must_meet() -> None:
    world = World()
    vault = world.token(audiences=("vault",))
    with pytest.raises(Unauthorized, match=r'audiences \["vault"\] is invalid for the target audiences'):
        await world.user(vault)
    assert await world.user(vault, "vault", "other") is not None
    assert world.verifier.audiences_of(vault, ("vault", "other")) == ("vault",)


async def test_forged_and_foreign_tokens() -> None:
    world = World()
    with pytest.raises(Unauthorized, match="invalid signature"):
        await world.user(World(ec.generate_private_key(ec.SECP256R1())).token())
    claims: dict[str, Any] = {"iss": ISSUER, "sub": "system:serviceaccount:x:robot"}
    with pytest.raises(Unauthorized, match="invalid signature"):
        await world.user(jwt.encode(claims, "", algorithm="none"))
    # A public key must not serve as an HMAC secret.
    with pytest.raises(Unauthorized, match="invalid signature"):
        await world.user(jwt.encode(claims, "x" * 32, algorithm="HS256"))
    assert await world.user(jwt.encode({"iss": "https://elsewhere"}, "x" * 32)) is None
    for nonsense in ("", "nonsense", "a.b.c", "....", "é.é.é", "e30.e30.e30", "e30." + "A" * 20_000 + ".e30"):
        assert await world.user(nonsense) is None, nonsense


@pytest.mark.parametrize(
    "claims",
    [{}, {"kubernetes.io": []}, {"kubernetes.io": {"namespace": 1}}, {"kubernetes.io": {"serviceaccount": "x"}}],
)
async def test_malformed_claims_are_refused(claims: dict[str, Any]) -> None:
    world = World()
    signed = jwt.encode({"iss": ISSUER} | claims, CURVE, algorithm="ES256")
    with pytest.raises(Unauthorized, match="malformed"):
        await world.user(signed)


async def test_a_legacy_token_lives_in_its_secret() -> None:
    world = World()
    prefix = "kubernetes.io/serviceaccount/"
    uid = world.account["metadata"]["uid"]
    token = jwt.encode(
        {
            "iss": "kubernetes/serviceaccount",
            "sub": "system:serviceaccount:x:robot",
            prefix + "namespace": "x",
            prefix + "secret.name": "robot-token",
            prefix + "service-account.name": "robot",
            prefix + "service-account.uid": uid,
        },
        CURVE,
        algorithm="ES256",
    )
    with pytest.raises(Unauthorized, match=r"^Token has been invalidated$"):
        await world.user(token)
    data = {"token": base64.b64encode(token.encode()).decode()}
    secret = world.store.put(SECRETS, named("robot-token", "x", data=data))
    user = await world.user(token)
    assert user is not None
    assert (user.name, user.uid) == ("system:serviceaccount:x:robot", uid)
    going = secret["metadata"] | {"labels": {"kubernetes.io/legacy-token-invalid-since": "2026-01-01"}}
    world.store.put(SECRETS, secret | {"metadata": going})
    told = r"the token in secret x/robot-token for service account x/robot has been marked invalid. Use tokens from"
    with pytest.raises(Unauthorized, match=told):
        await world.user(token)
    world.store.put(SECRETS, secret | {"data": {"token": base64.b64encode(b"other").decode()}})
    with pytest.raises(Unauthorized, match=r"^Token does not match server's copy$"):
        await world.user(token)


async def test_a_token_of_an_unknown_key() -> None:
    world = World()
    signed = jwt.encode({"iss": ISSUER}, CURVE, algorithm="ES256", headers={"kid": "another"})
    with pytest.raises(Unauthorized, match=r"^invalid signature, no keys found$"):
        await world.user(signed)


async def test_a_known_token_is_not_verified_again() -> None:
    """A hundred microseconds a signature are too many for each request."""
    import time

    world = World(RSA)
    token = world.token(("pod", world.pod))
    await world.user(token)
    started = time.process_time()
    for _ in range(2000):
        await world.user(token)
    assert time.process_time() - started < 0.3


def test_keys_of_all_kinds_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "sa.key"
    path.write_bytes(pki.key_pem(RSA) + pki.public_key_pem(CURVE.public_key()) + pki.public_key_pem(RSA.public_key()))
    keys = load_verification_keys([str(path)], "--service-account-key-file")
    assert [key.algorithm for key in keys] == ["RS256", "ES256"]
    assert isinstance(load_signing_key(str(path), "f"), rsa.RSAPrivateKey)
    published = jwt.PyJWKSet.from_json(key_set(keys).decode())
    assert {key.key_id for key in published.keys} == {key.key_id for key in keys}
    assert discovery_document("http://x", "u", keys) is None
    assert b'"id_token_signing_alg_values_supported":["ES256","RS256"]' in (
        discovery_document(ISSUER, "u", keys) or b""
    )
    path.write_text("nothing")
    with pytest.raises(SettingsError, match="--service-account-key-file"):
        load_verification_keys([str(path)], "--service-account-key-file")
    with pytest.raises(SettingsError, match="--service-account-signing-key-file"):
        load_signing_key(str(tmp_path / "absent"), "--service-account-signing-key-file")


def token_file(tmp_path: Path, text: str) -> TokenFile:
    path = tmp_path / "tokens.csv"
    path.write_text(text)
    return TokenFile(str(path))


async def test_static_tokens(tmp_path: Path) -> None:
    tokens = token_file(tmp_path, 't1,jane,u1,"dev,ops"\nt2,joe,u2\n\n,nobody,u3\nt2,jack,u4,"a"\n')
    assert await tokens.authenticate_token("t1", ()) == User("jane", "u1", ("dev", "ops", "system:authenticated"))
    assert await tokens.authenticate_token("t2", ()) == User("jack", "u4", ("a", "system:authenticated"))
    assert await tokens.authenticate_token("", ()) is None
    with pytest.raises(SettingsError, match="at least 3 columns"):
        token_file(tmp_path, "t1,jane\n")
    with pytest.raises(SettingsError, match="--token-auth-file"):
        TokenFile(str(tmp_path / "absent"))


def bootstrap_secret(**data: str) -> Object:
    given = {"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true"} | data
    encoded = {key.replace("_", "-"): base64.b64encode(v.encode()).decode() for key, v in given.items()}
    return named("bootstrap-token-abcdef", "kube-system", type="bootstrap.kubernetes.io/token", data=encoded)


@pytest.mark.parametrize(
    ("data", "groups"),
    [
        ({}, ("system:bootstrappers",)),
        (
            {"auth_extra_groups": "system:bootstrappers:kubeadm:default-node-token"},
            ("system:bootstrappers", "system:bootstrappers:kubeadm:default-node-token"),
        ),
        ({"auth_extra_groups": "system:masters"}, None),
        ({"expiration": "2025-12-31T23:59:59Z"}, None),
        ({"expiration": "2026-01-01T00:00:01Z"}, ("system:bootstrappers",)),
        ({"expiration": "never"}, None),
        ({"usage-bootstrap-authentication": "false"}, None),
        ({"token-id": "other1"}, None),
    ],
)
async def test_bootstrap_tokens(data: dict[str, str], groups: tuple[str, ...] | None) -> None:
    store = Store()
    store.put(SECRETS, bootstrap_secret(**data))
    tokens = BootstrapTokens(store, FakeClock().now)
    user = await tokens.authenticate_token("abcdef.0123456789abcdef", ())
    assert user == (User("system:bootstrap:abcdef", groups=groups) if groups else None)
    assert await tokens.authenticate_token("abcdef.0123456789abcdeX", ()) is None
    assert await tokens.authenticate_token("abcdef.fedcba9876543210", ()) is None


def chain(world: World, tmp_path: Path, *, anonymous: bool = True) -> Chain:
    tokens = Tokens([token_file(tmp_path, "secret,jane,u1\n"), world.verifier], (ISSUER,))
    return Chain([], tokens, anonymous=anonymous)


def headers(*pairs: tuple[str, str]) -> Credentials:
    return Credentials((), CIMultiDict(pairs))


async def test_who_offers_nothing_is_anonymous(tmp_path: Path) -> None:
    who = chain(World(), tmp_path)
    for offered in [(), (("Authorization", "Basic YTpi"),), (("Authorization", "Bearer "),)]:
        assert await who.authenticate(headers(*offered)) == ANONYMOUS
    assert await chain(World(), tmp_path, anonymous=False).authenticate(headers()) is None


async def test_a_bad_token_never_makes_anonymous(tmp_path: Path) -> None:
    who = chain(World(), tmp_path)
    for token in ("nonsense", "eyJhbGciOiJub25lIn0.e30."):
        with pytest.raises(Unauthorized) as refused:
            await who.authenticate(headers(("Authorization", f"Bearer {token}")))
        assert refused.value.message == "Unauthorized"


async def test_a_good_token_by_header_or_by_subprotocol(tmp_path: Path) -> None:
    world = World()
    who = chain(world, tmp_path)
    jane = User("jane", "u1", ("system:authenticated",))
    assert await who.authenticate(headers(("Authorization", "bearer secret"))) == jane
    encoded = base64.urlsafe_b64encode(b"secret").rstrip(b"=").decode()
    protocols = f"base64url.bearer.authorization.k8s.io.{encoded}, v4.channel.k8s.io"
    asked = headers(("Upgrade", "websocket"), ("Sec-WebSocket-Protocol", protocols))
    assert await who.authenticate(asked) == jane
    bearer = "base64url.bearer.authorization.k8s.io."
    for wrong in (
        protocols.split(",")[0],
        f"{protocols}, {bearer}{encoded}",
        f"{bearer}c2VjcmV0=, x",
        f"{bearer}_w, x",
    ):
        with pytest.raises(Unauthorized):
            await who.authenticate(headers(("Upgrade", "websocket"), ("Sec-WebSocket-Protocol", wrong)))
    robot = await who.authenticate(headers(("Authorization", f"Bearer {world.token()}")))
    assert robot is not None
    assert robot.groups[-1] == "system:authenticated"


async def test_a_review_of_a_token_says_what_is_wrong(tmp_path: Path) -> None:
    world = World()
    tokens = chain(world, tmp_path).tokens
    with pytest.raises(Unauthorized, match=r"^invalid bearer token$"):
        await tokens.authenticate("nonsense")
    token = world.token(audiences=("vault",))
    with pytest.raises(Unauthorized, match=r"^\[invalid bearer token, token audiences"):
        await tokens.authenticate(token)
    assert (await tokens.authenticate(token, ("vault",))).audiences == ("vault",)
    with pytest.raises(Unauthorized, match="invalid bearer token"):
        await tokens.authenticate("secret", ("vault",))
    assert (await tokens.authenticate("secret")).audiences == (ISSUER,)
