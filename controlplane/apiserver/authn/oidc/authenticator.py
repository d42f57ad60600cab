"""From a token's claims to a user.

Source: k8s.io/apiserver/plugin/pkg/authenticator/token/oidc/oidc.go.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from controlplane.apiserver.authn.oidc.model import Issuer, Rule
from controlplane.apiserver.authn.oidc.provider import Provider
from controlplane.apiserver.request import User
from machinery.cel.environment import Program
from machinery.cel.errors import EvaluationError
from machinery.clock import Clock
from machinery.errors import Unauthorized

_GOOGLE = "accounts.google.com"  # an issuer whose tokens leave the scheme out


class IssuedTokens:
    """Tokens of one issuer."""

    def __init__(self, issuer: Issuer, clock: Clock) -> None:
        self._issuer = issuer
        self._provider = Provider(issuer, clock)

    async def authenticate_token(self, token: str, audiences: tuple[str, ...]) -> User | None:
        """The user; None if another issued the token. Raises Unauthorized."""
        if _untrusted_issuer(token) != self._issuer.url:
            return None
        return user_of(self._issuer, await self._provider.claims(token))


def user_of(issuer: Issuer, claims: Mapping[str, Any]) -> User:
    """The user that verified claims describe. Raises Unauthorized if a rule does not hold."""
    user = User(_username(issuer, claims), _uid(issuer, claims), _groups(issuer, claims), _extra(issuer, claims))
    for claim, wanted in issuer.required:
        if claim not in claims:
            raise Unauthorized(f"oidc: required claim {claim} not present in ID token")
        found = claims[claim]
        if not isinstance(found, str):
            raise Unauthorized(f"oidc: parse claim {claim}: it is not a string")
        if found != wanted:
            told = f"value does not match. Got = {found}, want = {wanted}"
            raise Unauthorized(f"oidc: required claim {claim} {told}")
    _require(issuer.claim_rules, {"claims": claims}, "oidc: error evaluating claim validation expression")
    shown = {
        "username": user.name,
        "uid": user.uid,
        "groups": list(user.groups),
        "extra": {key: list(values) for key, values in user.extra.items()},
    }
    _require(issuer.user_rules, {"user": shown}, "oidc: error evaluating user info validation rule")
    return user


def _untrusted_issuer(token: str) -> str:
    """What a token says of its issuer; "" if it is no token."""
    parts = token.split(".")
    if len(parts) != 3:
        return ""
    try:
        claims = orjson.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return ""
    told = claims.get("iss") if isinstance(claims, dict) else None
    return f"https://{_GOOGLE}" if told == _GOOGLE else told if isinstance(told, str) else ""


def _evaluated(program: Program, claims: Mapping[str, Any], what: str) -> Any:
    try:
        return program.evaluate({"claims": claims})
    except EvaluationError as exc:
        raise Unauthorized(f"oidc: error evaluating {what} claim expression: {exc}") from exc


def _username(issuer: Issuer, claims: Mapping[str, Any]) -> str:
    mapping = issuer.username
    if mapping.expression is not None:
        found = _evaluated(mapping.expression, claims, "username")
        if not isinstance(found, str):
            raise Unauthorized("oidc: error evaluating username claim expression: it must return a string")
        if not found:
            raise Unauthorized("oidc: empty username via CEL expression is not allowed")
        return found
    found = claims.get(mapping.claim)
    if not isinstance(found, str):
        why = "claim not present" if found is None else "it is not a string"
        raise Unauthorized(f'oidc: parse username claims "{mapping.claim}": {why}')
    # Whoever can choose an address must not become its owner.
    if mapping.claim == "email" and claims.get("email_verified", True) is not True:
        raise Unauthorized("oidc: email not verified")
    return mapping.prefix + found


def _groups(issuer: Issuer, claims: Mapping[str, Any]) -> tuple[str, ...]:
    mapping = issuer.groups
    if mapping.expression is not None:
        return _texts(_evaluated(mapping.expression, claims, "group"), "group")
    if not mapping.claim or mapping.claim not in claims:
        return ()
    found = claims[mapping.claim]
    given = [found] if isinstance(found, str) else found
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise Unauthorized(f'oidc: parse groups claim "{mapping.claim}": neither a string nor a list of strings')
    return tuple(mapping.prefix + each for each in given)


def _uid(issuer: Issuer, claims: Mapping[str, Any]) -> str:
    mapping = issuer.uid
    if mapping.expression is not None:
        found = _evaluated(mapping.expression, claims, "uid")
        if not isinstance(found, str):
            raise Unauthorized("oidc: error evaluating uid claim expression: it must return a string")
        return found
    if not mapping.claim:
        return ""
    found = claims.get(mapping.claim)
    if not isinstance(found, str):
        raise Unauthorized(f'oidc: parse uid claim "{mapping.claim}": not a string')
    return found


def _extra(issuer: Issuer, claims: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    found = {key: _texts(_evaluated(program, claims, "extra"), "extra") for key, program in issuer.extra}
    return {key: values for key, values in found.items() if values}


def _texts(value: Any, what: str) -> tuple[str, ...]:
    """A string, a list of strings or nothing; empty strings are left out."""
    if value is None:
        return ()
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list | tuple) or not all(isinstance(each, str) for each in given):
        raise Unauthorized(f"oidc: error evaluating {what} claim expression: expression must return a string or a list")
    return tuple(each for each in given if each)


def _require(rules: Iterable[Rule], variables: Mapping[str, Any], what: str) -> None:
    for rule in rules:
        try:
            holds = rule.expression.evaluate(variables)
        except EvaluationError as exc:
            raise Unauthorized(f"{what}: expression '{rule.expression.text}' resulted in error: {exc}") from exc
        if holds is not True:
            told = rule.message or "validation expression did not evaluate to true"
            raise Unauthorized(f"{what}: validation expression '{rule.expression.text}' failed: {told}")
