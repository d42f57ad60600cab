"""Tokens of other identity providers, from a real issuer over TLS to the user; what is wrong with configurations."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jwt
import orjson
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa

from controlplane.apiserver.authn.oidc.authenticator import IssuedTokens, user_of
from controlplane.apiserver.authn.oidc.configuration import from_flags, load, parse
from controlplane.apiserver.authn.oidc.model import Issuer
from controlplane.apiserver.request import User
from controlplane.apiserver.settings import Settings
from machinery import pki
from machinery.api.meta import Object
from machinery.clock import SystemClock
from machinery.errors import SettingsError, Unauthorized
from machinery.serving import server_tls

AUTHORITY = pki.make_authority("issuers", algorithm="ECDSA-P256")
SERVER = pki.issue(AUTHORITY, "issuer", usages=pki.SERVER_USAGES, names=("127.0.0.1",), algorithm="ECDSA-P256")
CA = AUTHORITY.certificate_pem.decode()
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass
class Provider:
    """An issuer: what it publishes, and how often it was asked for its keys."""

    url: str = ""
    keys: list[Any] = field(default_factory=list)
    asked: int = 0

    def token(self, key: rsa.RSAPrivateKey = KEY, kid: str = "one", **claims: Any) -> str:
        whole = {"iss": self.url, "aud": "me", "sub": "jane", "exp": time.time() + 60, **claims}
        return jwt.encode({k: v for k, v in whole.items() if v is not None}, key, "RS256", headers={"kid": kid})

    def issuer(self, **mappings: Any) -> Issuer:
        return configured(self.url, claimMappings={"username": {"claim": "sub", "prefix": ""}, **mappings})


def configured(url: str, **jwt_: Any) -> Issuer:
    issuer = {"url": url, "audiences": ["me"], "certificateAuthority": CA}
    return parse({"jwt": [{"issuer": issuer, **jwt_}]}, (), "f").issuers[0]


def public(key: rsa.RSAPrivateKey, kid: str) -> Any:
    return {**jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "alg": "RS256"}


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    made = Provider(keys=[public(KEY, "one"), {"kty": "strange"}])

    async def handle(request: web.BaseRequest) -> web.Response:
        if request.path.endswith("openid-configuration"):
            return web.json_response({"issuer": made.url, "jwks_uri": f"{made.url}/keys"})
        made.asked += 1
        return web.json_response({"keys": made.keys})

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_tls(SERVER.certificate_pem, SERVER.key_pem)).start()
    made.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


async def test_a_token_of_a_trusted_issuer_is_its_subject(provider: Provider) -> None:
    tokens = IssuedTokens(provider.issuer(groups={"claim": "roles", "prefix": "ext:"}), SystemClock())
    token = provider.token(roles=["dev", "ops"])
    assert await tokens.authenticate_token(token, ()) == User("jane", groups=("ext:dev", "ext:ops"))
    assert await tokens.authenticate_token(provider.token(roles="dev"), ()) == User("jane", groups=("ext:dev",))
    assert provider.asked == 1


async def test_others_tokens_are_left_to_others(provider: Provider) -> None:
    tokens = IssuedTokens(provider.issuer(), SystemClock())
    for token in ("x", "a.b.c", provider.token(iss="https://other"), "e30.e30.e30"):
        assert await tokens.authenticate_token(token, ()) is None
    assert provider.asked == 0


@pytest.mark.parametrize(
    "claims",
    [{"aud": "you"}, {"exp": 1}, {"exp": None}, {"nbf": 9_999_999_999}, {"sub": None}, {"sub": 7}],
    ids=str,
)
async def test_a_token_that_does_not_hold_is_refused(provider: Provider, claims: dict[str, Any]) -> None:
    tokens = IssuedTokens(provider.issuer(), SystemClock())
    with pytest.raises(Unauthorized, match="oidc: "):
        await tokens.authenticate_token(provider.token(**claims), ())


async def test_a_key_that_is_not_the_issuer_s_is_refused_and_a_new_one_found(provider: Provider) -> None:
    tokens = IssuedTokens(provider.issuer(), SystemClock())
    with pytest.raises(Unauthorized, match="failed to verify signature"):
        await tokens.authenticate_token(provider.token(OTHER_KEY), ())
    provider.keys.append(public(OTHER_KEY, "two"))
    fresh = IssuedTokens(provider.issuer(), SystemClock())
    assert await fresh.authenticate_token(provider.token(OTHER_KEY, "two"), ()) == User("jane")
    unsigned = jwt.encode({"iss": provider.url, "sub": "root", "aud": "me"}, "", "none")
    with pytest.raises(Unauthorized, match="unsupported algorithm"):
        await fresh.authenticate_token(unsigned, ())


async def test_an_issuer_that_can_t_be_reached_or_trusted_lets_nobody_in(provider: Provider) -> None:
    stranger = replace(provider.issuer(), certificate_authority=pki.make_authority("other").certificate_pem.decode())
    with pytest.raises(Unauthorized, match="not initialized"):
        await IssuedTokens(stranger, SystemClock()).authenticate_token(provider.token(), ())


EXPRESSIONS = {
    "claimMappings": {
        "username": {"expression": "claims.email_verified ? claims.email : 'nobody:' + claims.sub"},
        "groups": {"expression": "claims.roles.split(',').map(role, 'ext:' + role)"},
        "uid": {"claim": "oid"},
        "extra": [{"key": "example.org/tenant", "valueExpression": "claims.?tenant.orValue('')"}],
    },
    "claimValidationRules": [
        {"claim": "hd", "requiredValue": "example.org"},
        {"expression": "claims.exp - claims.iat <= 3600", "message": "a token lives at most an hour"},
    ],
    "userValidationRules": [{"expression": "!user.username.startsWith('system:')", "message": "reserved"}],
}
CLAIMS: Object = {
    "sub": "1",
    "email": "a@example.org",
    "email_verified": True,
    "roles": "dev,ops",
    "oid": "u1",
    "tenant": "t",
    "hd": "example.org",
    "iat": 0,
    "exp": 60,
}


def test_expressions_make_the_user() -> None:
    issuer = configured("https://i", **EXPRESSIONS)
    expected = User("a@example.org", "u1", ("ext:dev", "ext:ops"), {"example.org/tenant": ("t",)})
    assert user_of(issuer, CLAIMS) == expected
    unverified = user_of(issuer, {**CLAIMS, "email_verified": False, "tenant": ""})
    assert (unverified.name, unverified.extra) == ("nobody:1", {})
    for wrong, told in (
        ({"hd": "other"}, "required claim hd value does not match. Got = other, want = example.org"),
        ({"exp": 7200}, "a token lives at most an hour"),
        ({"email": "system:admin"}, "reserved"),
        ({"oid": 7}, 'parse uid claim "oid"'),
        ({"email": 7}, "must return a string"),
    ):
        with pytest.raises(Unauthorized, match=told):
            user_of(issuer, {**CLAIMS, **wrong})


def test_an_address_is_not_believed_unless_its_issuer_says_so() -> None:
    issuer = configured("https://i", claimMappings={"username": {"claim": "email", "prefix": ""}})
    assert user_of(issuer, {"email": "a@b"}).name == "a@b"
    with pytest.raises(Unauthorized, match="email not verified"):
        user_of(issuer, {"email": "a@b", "email_verified": False})


def test_all_that_is_wrong_with_a_configuration_is_told_in_upstream_s_words() -> None:
    username = {"username": {"claim": "sub"}}
    given: Object = {
        "jwt": [
            {"issuer": {"url": "http://a?b#c"}, "claimMappings": username},
            {"issuer": {"url": "https://own", "audiences": ["x", "x"]}, "claimMappings": {}},
            {
                "issuer": {"url": "https://e", "audiences": ["x"], "certificateAuthority": "no PEM"},
                "claimMappings": {
                    "username": {"expression": "claims.email"},
                    "groups": {"claim": "a", "expression": "b"},
                    "extra": [{"key": "Foo", "valueExpression": "1 +"}, {"key": "a.k8s.io/b"}],
                },
                "claimValidationRules": [{}, {"claim": "a", "message": "b"}, {"expression": "1"}],
                "userValidationRules": [{"expression": "user.nothing"}],
            },
        ],
        "anonymous": {"enabled": False, "conditions": [{"path": "/livez"}]},
    }
    with pytest.raises(SettingsError) as caught:
        parse(given, ["https://own"], "f")
    for told in (
        'jwt[0].issuer.url: Invalid value: "http://a?b#c": URL scheme must be https',
        "URL must not contain a query",
        "jwt[0].issuer.audiences: Required value: at least one jwt[0].issuer.audiences is required",
        "jwt[0].claimMappings.username.prefix: Required value: prefix is required when claim is set",
        'jwt[1].issuer.url: Invalid value: "https://own": URL must not overlap with disallowed issuers: [https://own]',
        'jwt[1].issuer.audiences[1]: Duplicate value: "x"',
        "audienceMatchPolicy must be MatchAny for multiple audiences",
        "jwt[1].claimMappings.username: Required value: claim or expression is required",
        'jwt[2].issuer.certificateAuthority: Invalid value: "<omitted>"',
        "claims.email_verified must be used in claimMappings.username.expression or",
        'jwt[2].claimMappings.groups: Invalid value: "": claim and expression can\'t both be set',
        'jwt[2].claimMappings.extra[0].key: Invalid value: "Foo": must be lowercase',
        'jwt[2].claimMappings.extra[0].valueExpression: Invalid value: "1 +": compilation failed',
        "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use",
        "jwt[2].claimMappings.extra[1].valueExpression: Required value",
        "jwt[2].claimValidationRules[0]: Required value: claim or expression is required",
        'jwt[2].claimValidationRules[1].message: Invalid value: "b": may not be specified when claim is set',
        'jwt[2].claimValidationRules[2].expression: Invalid value: "1": must evaluate to bool',
        "jwt[2].userValidationRules[0].expression: Invalid value",
        "enabled should be set to true when conditions are defined",
    ):
        assert told in str(caught.value), told


def test_a_file_names_issuers_and_where_everybody_is_welcome(tmp_path: Path) -> None:
    file = tmp_path / "authentication.yaml"
    document = {
        "apiVersion": "apiserver.config.k8s.io/v1beta1",
        "kind": "AuthenticationConfiguration",
        "jwt": [
            {"issuer": {"url": "https://a", "audiences": ["x"]}, "claimMappings": {"username": {"expression": "'x'"}}}
        ],
        "anonymous": {"enabled": True, "conditions": [{"path": "/livez"}]},
    }
    file.write_bytes(orjson.dumps(document))
    made = load(str(file), ())
    assert [issuer.url for issuer in made.issuers] == ["https://a"]
    assert made.anonymous is not None
    assert made.anonymous.paths == ("/livez",)
    file.write_text("kind: Other")
    with pytest.raises(SettingsError, match="is not an AuthenticationConfiguration"):
        load(str(file), ())


def test_the_flags_name_one_issuer() -> None:
    settings = Settings(oidc_issuer_url="https://a", oidc_client_id="me")
    [issuer] = from_flags(settings).issuers
    assert (issuer.username.claim, issuer.username.prefix) == ("sub", "https://a#")
    [issuer] = from_flags(replace(settings, oidc_username_claim="email", oidc_required_claim=(("a", "b"),))).issuers
    assert (issuer.username.prefix, issuer.required, issuer.algorithms) == ("", (("a", "b"),), ("RS256",))
    [issuer] = from_flags(replace(settings, oidc_username_prefix="-")).issuers
    assert issuer.username.prefix == ""
    with pytest.raises(SettingsError, match="must be specified together"):
        from_flags(replace(settings, oidc_client_id=""))
    with pytest.raises(SettingsError, match="unsupported signing alg"):
        from_flags(replace(settings, oidc_signing_algs=("HS256",)))
