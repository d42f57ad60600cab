"""Verifies service-account tokens, and that what they are bound to still lives.

A signature is checked once: what a token claims is remembered. Its times and the objects it is bound to are looked at
on every request, so that a token dies the moment its pod or account does.

Source: k8s.io/kubernetes/pkg/serviceaccount/{jwt,claims,legacy}.go.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import jwt

from controlplane.apiserver.authn import identity
from controlplane.apiserver.authn.keys import VerificationKey
from controlplane.apiserver.authn.legacy import INVALID_SINCE, LegacyTokens
from controlplane.apiserver.reader import Reader
from controlplane.apiserver.request import User
from machinery.api.catalogue import NODES, PODS, SECRETS, SERVICEACCOUNTS
from machinery.api.fielderror import show
from machinery.api.meta import Object, is_deleting, labels_of, parse_time, uid_of
from machinery.api.resource import ResourceType
from machinery.clock import Clock
from machinery.errors import Unauthorized

LEGACY_ISSUER = "kubernetes/serviceaccount"
_LEGACY = "kubernetes.io/serviceaccount/"
_LEEWAY = timedelta(seconds=60)
_REMEMBERED = 4096
_LONGEST_TOKEN = 16 * 1024


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says. References are (name, uid); uid is "" where the token does not have it."""

    namespace: str
    account: tuple[str, str]
    audiences: tuple[str, ...] = ()  # empty: those of the API server
    token_id: str = ""
    not_before: float | None = None
    expires: float | None = None
    issued: float | None = None
    pod: tuple[str, str] | None = None
    node: tuple[str, str] | None = None
    secret: tuple[str, str] | None = None
    legacy: bool = False


class ServiceAccountTokens:
    """Knows tokens of the given issuers that one of the keys signed."""

    def __init__(
        self,
        keys: Sequence[VerificationKey],
        issuers: Sequence[str],
        api_audiences: Sequence[str],
        reader: Reader,
        clock: Clock,
        *,
        lookup: bool = True,
        legacy: LegacyTokens | None = None,
    ) -> None:
        """`lookup` is --service-account-lookup: whether legacy tokens must still have their Secret."""
        self._keys = tuple(keys)
        self._issuers = frozenset(issuers)
        self._api_audiences = tuple(api_audiences)
        self._reader = reader
        self._clock = clock
        self._lookup = lookup
        self._legacy = legacy
        self._verified: dict[str, Claims] = {}

    async def authenticate_token(self, token: str, audiences: tuple[str, ...]) -> User | None:
        """The service account; None if the token is not of these issuers. Raises Unauthorized saying why."""
        claims = self._verified.get(token)
        if claims is None:
            claims = self._verify(token)
            if claims is None:
                return None
            if len(self._verified) >= _REMEMBERED:
                self._verified.clear()
            self._verified[token] = claims
        self._check_audiences(claims, audiences)
        self._check_times(claims)
        await self._check_objects(claims, token)
        return _user(claims)

    def audiences_of(self, token: str, audiences: tuple[str, ...]) -> tuple[str, ...]:
        """Those of the asked-for audiences that a token (just authenticated) is for."""
        claims = self._verified.get(token)
        own = claims.audiences if claims is not None and claims.audiences else self._api_audiences
        return tuple(a for a in own if a in (audiences or self._api_audiences))

    def _verify(self, token: str) -> Claims | None:
        payload = _unverified(token)
        if payload is None:
            return None
        issuer = payload.get("iss")
        if issuer != LEGACY_ISSUER and issuer not in self._issuers:
            return None
        if not self._signed(token):
            raise Unauthorized("invalid signature")
        return _legacy_claims(payload) if issuer == LEGACY_ISSUER else _claims(payload)

    def _signed(self, token: str) -> bool:
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
        except jwt.InvalidTokenError:
            return False
        known = [key for key in self._keys if key.key_id == key_id] if key_id else self._keys
        if not known:
            raise Unauthorized("invalid signature, no keys found")
        for key in known:
            try:
                jwt.PyJWS(algorithms=[key.algorithm]).decode(token, key.key, algorithms=[key.algorithm])
            except (jwt.InvalidTokenError, ValueError, TypeError):
                continue
            return True
        return False

    def _check_audiences(self, claims: Claims, asked: tuple[str, ...]) -> None:
        wanted = asked or self._api_audiences
        own = claims.audiences or self._api_audiences
        if self._api_audiences and not set(own) & set(wanted):
            told = " ".join(map(show, own)), " ".join(map(show, wanted))
            raise Unauthorized(f"token audiences [{told[0]}] is invalid for the target audiences [{told[1]}]")

    def _check_times(self, claims: Claims) -> None:
        """With leeway, as clocks differ."""
        now, leeway = self._clock.now().timestamp(), _LEEWAY.total_seconds()
        if claims.not_before is not None and now + leeway < claims.not_before:
            raise Unauthorized("service account token is not valid yet")
        if claims.expires is not None and now - leeway > claims.expires:
            raise Unauthorized("service account token has expired")
        if claims.issued is not None and now + leeway < claims.issued:
            raise Unauthorized("service account token is issued in the future")

    async def _check_objects(self, claims: Claims, token: str) -> None:
        if claims.legacy:
            if self._lookup:
                await self._check_legacy(claims, token)
            return
        namespace = claims.namespace
        await self._account(claims, "service account", self._clock.now() - _LEEWAY)
        if claims.secret is not None:
            await self._bound(SECRETS, namespace, claims.secret, "secret")
        if claims.pod is not None:
            await self._bound(PODS, namespace, claims.pod, "pod")
        elif claims.node is not None:
            await self._bound(NODES, "", claims.node, "node")

    async def _check_legacy(self, claims: Claims, token: str) -> None:
        """What upstream's legacyValidator looks at, in its words."""
        assert claims.secret is not None
        namespace, name = claims.namespace, claims.secret[0]
        secret = await self._find(SECRETS, namespace, claims.secret)
        if secret is None or is_deleting(secret):
            raise Unauthorized("Token has been invalidated")
        if not _keeps(secret, token):
            raise Unauthorized("Token does not match server's copy")
        await self._account(claims, "ServiceAccount", None)
        if self._legacy is not None:
            await self._legacy.note_use(secret)
        if labels_of(secret).get(INVALID_SINCE):
            raise Unauthorized(
                f"the token in secret {namespace}/{name} for service account {namespace}/{claims.account[0]} has been "
                "marked invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or "
                f"remove the '{INVALID_SINCE}' label from the secret to temporarily allow use of this token"
            )

    async def _account(self, claims: Claims, called: str, deleted_before: datetime | None) -> None:
        """The account lives; None: it is gone as soon as its deletion begins."""
        name, uid = claims.account
        account = await self._find(SERVICEACCOUNTS, claims.namespace, claims.account)
        if account is None:
            raise Unauthorized(f"serviceaccounts {show(name)} not found")
        if uid_of(account) != uid:
            raise Unauthorized(f"{called} UID ({uid_of(account)}) does not match claim ({uid})")
        if _gone(account, deleted_before):
            raise Unauthorized(f"{called} {claims.namespace}/{name} has been deleted")

    async def _bound(self, resource: ResourceType, namespace: str, wanted: tuple[str, str], called: str) -> None:
        """What a token is bound to lives."""
        obj = await self._find(resource, namespace, wanted)
        if obj is None:
            raise Unauthorized("service account token has been invalidated")
        if uid_of(obj) != wanted[1]:
            told = f"{called} UID ({uid_of(obj)}) does not match service account {called} ref claim ({wanted[1]})"
            raise Unauthorized(told)
        if _gone(obj, self._clock.now() - _LEEWAY):
            raise Unauthorized("service account token has been invalidated")

    async def _find(self, resource: ResourceType, namespace: str, wanted: tuple[str, str]) -> Object | None:
        name, uid = wanted
        obj = self._reader.get(resource, namespace, name)
        if obj is None or (uid and uid_of(obj) != uid):
            # Memory may be behind storage: a token can be used right after its object was created.
            obj = await self._reader.get_latest(resource, namespace, name)
        return obj


def _gone(obj: Object, before: datetime | None) -> bool:
    if not is_deleting(obj):
        return False
    return before is None or parse_time(obj["metadata"]["deletionTimestamp"]) < before


def _user(claims: Claims) -> User:
    name, uid = claims.account
    extra: dict[str, tuple[str, ...]] = {}
    for reference, name_key, uid_key in (
        (claims.pod, identity.POD_NAME, identity.POD_UID),
        (claims.node, identity.NODE_NAME, identity.NODE_UID),
    ):
        if reference is not None:
            extra[name_key] = (reference[0],)
            if reference[1]:
                extra[uid_key] = (reference[1],)
    if claims.token_id:
        extra[identity.CREDENTIAL_ID] = (f"JTI={claims.token_id}",)
    groups = identity.service_account_groups(claims.namespace)
    return User(identity.service_account_name(claims.namespace, name), uid, groups, extra)


def _unverified(token: str) -> dict[str, Any] | None:
    """The payload of what looks like a JWT."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > _LONGEST_TOKEN:
        return None
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return None
    return payload if isinstance(payload, dict) else None


def _claims(payload: Mapping[str, Any]) -> Claims:
    private = payload.get("kubernetes.io")
    if not isinstance(private, dict):
        raise Unauthorized("service account token claims are malformed")
    namespace, account = private.get("namespace"), _reference(private, "serviceaccount")
    if not isinstance(namespace, str) or account is None:
        raise Unauthorized("service account token claims are malformed")
    audience = payload.get("aud")
    audiences = [audience] if isinstance(audience, str) else audience if isinstance(audience, list) else []
    return Claims(
        namespace=namespace,
        account=account,
        audiences=tuple(a for a in audiences if isinstance(a, str)),
        token_id=_text(payload.get("jti")),
        not_before=_moment(payload.get("nbf")),
        expires=_moment(payload.get("exp")),
        issued=_moment(payload.get("iat")),
        pod=_reference(private, "pod"),
        node=_reference(private, "node"),
        secret=_reference(private, "secret"),
    )


def _legacy_claims(payload: Mapping[str, Any]) -> Claims:
    def claim(name: str) -> str:
        return _text(payload.get(_LEGACY + name))

    namespace, secret = claim("namespace"), claim("secret.name")
    account, uid = claim("service-account.name"), claim("service-account.uid")
    for value, called in (
        (payload.get("sub"), "sub"),
        (namespace, "namespace"),
        (secret, "secretName"),
        (account, "serviceAccountName"),
        (uid, "serviceAccountUID"),
    ):
        if not value:
            raise Unauthorized(f"{called} claim is missing")
    if payload.get("sub") != identity.service_account_name(namespace, account):
        raise Unauthorized("sub claim is invalid")
    return Claims(namespace=namespace, account=(account, uid), secret=(secret, ""), legacy=True)


def _keeps(secret: Object, token: str) -> bool:
    try:
        kept = base64.b64decode((secret.get("data") or {}).get("token") or "")
    except binascii.Error:
        return False
    return secrets.compare_digest(kept, token.encode())


def _reference(private: Mapping[str, Any], claim: str) -> tuple[str, str] | None:
    value = private.get(claim)
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    return value["name"], _text(value.get("uid"))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _moment(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
