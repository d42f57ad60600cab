"""Taking an AuthenticationConfiguration apart, with all that is wrong with it.

Source: k8s.io/apiserver/pkg/apis/apiserver/validation (ValidateAuthenticationConfiguration).
"""

from __future__ import annotations

import ssl
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from controlplane.apiserver.authn.oidc import expressions
from controlplane.apiserver.authn.oidc.model import Anonymous, Issuer, Mapping, Rule
from machinery.api import fielderror, names
from machinery.api.fielderror import FieldError
from machinery.api.meta import Object
from machinery.cel.declarations import Scope
from machinery.cel.environment import Program
from machinery.cel.errors import CompileError

ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512")
_MOST = 64
_RESERVED = ("kubernetes.io", "k8s.io")


class Reader:
    """Takes a document apart and collects what is wrong with it."""

    def __init__(self, document: Object) -> None:
        self._document = document
        self.errors: list[FieldError] = []

    def issuers(self, own_issuers: Collection[str]) -> tuple[Issuer, ...]:
        """jwt."""
        given = _list(self._document.get("jwt"))
        if len(given) > _MOST:
            self.errors.append(fielderror.too_many("jwt", len(given), _MOST))
            return ()
        found = []
        seen: dict[str, set[str]] = {"url": set(), "discoveryURL": set()}
        for at, jwt in enumerate(given):
            where = f"jwt[{at}]"
            found.append(_IssuerReader(_object(jwt), where, self.errors, own_issuers).issuer())
            for name, known in seen.items():
                value = _text(_object(_object(jwt).get("issuer")).get(name))
                if value in known and value:
                    self.errors.append(fielderror.duplicate(f"{where}.issuer.{name}", value))
                known.add(value)
        return tuple(found)

    def anonymous(self) -> Anonymous | None:
        """anonymous."""
        told = self._document.get("anonymous")
        if not isinstance(told, dict):
            return None
        paths = tuple(_text(_object(condition).get("path")) for condition in _list(told.get("conditions")))
        enabled = told.get("enabled") is True
        if paths and not enabled:
            why = "enabled should be set to true when conditions are defined"
            self.errors.append(fielderror.invalid("anonymous.conditions", told["conditions"], why))
        return Anonymous(enabled, paths)


@dataclass(slots=True)
class _IssuerReader:
    """jwt[i]."""

    jwt: Object
    where: str
    errors: list[FieldError]
    own_issuers: Collection[str]
    _checking: list[str] = field(default_factory=list)
    """Expressions of rules and of extra: where it may be checked that an address is verified."""

    def issuer(self) -> Issuer:
        told = _object(self.jwt.get("issuer"))
        self._issuer(told)
        required, claim_rules = self._claim_rules()
        mappings = _object(self.jwt.get("claimMappings"))
        where = f"{self.where}.claimMappings"
        username = self._mapping(_object(mappings.get("username")), f"{where}.username", required=True)
        groups = self._mapping(_object(mappings.get("groups")), f"{where}.groups")
        uid = self._uid(_object(mappings.get("uid")), f"{where}.uid")
        extra = self._extra(_list(mappings.get("extra")), f"{where}.extra")
        self._email(mappings, where)
        return Issuer(
            _text(told.get("url")),
            _text(told.get("discoveryURL")),
            _text(told.get("certificateAuthority")),
            tuple(map(_text, _list(told.get("audiences")))),
            username,
            groups,
            uid,
            extra,
            required,
            claim_rules,
            self._user_rules(),
            ALGORITHMS,
        )

    def _issuer(self, told: Object) -> None:
        where = f"{self.where}.issuer"
        url, discovery = _text(told.get("url")), _text(told.get("discoveryURL"))
        if not url:
            self.errors.append(fielderror.required(f"{where}.url"))
        else:
            if url in self.own_issuers:
                shown = " ".join(sorted(self.own_issuers))
                why = f"URL must not overlap with disallowed issuers: [{shown}]"
                self.errors.append(fielderror.invalid(f"{where}.url", url, why))
            self._url(url, f"{where}.url")
        if discovery:
            if url and url.rstrip("/") == discovery.rstrip("/"):
                why = "discoveryURL must be different from URL"
                self.errors.append(fielderror.invalid(f"{where}.discoveryURL", discovery, why))
            self._url(discovery, f"{where}.discoveryURL")
        self._audiences(told, where)
        authority = _text(told.get("certificateAuthority"))
        if authority:
            try:
                ssl.create_default_context(cadata=authority)
            except (ssl.SSLError, ValueError) as exc:
                self.errors.append(fielderror.invalid(f"{where}.certificateAuthority", "<omitted>", str(exc)))
        if told.get("egressSelectorType"):
            why = "egress selector must be either controlplane or cluster"
            if told["egressSelectorType"] not in ("controlplane", "cluster"):
                self.errors.append(fielderror.invalid(f"{where}.egressSelectorType", told["egressSelectorType"], why))

    def _url(self, text: str, where: str) -> None:
        try:
            url = urlsplit(text)
        except ValueError as exc:
            self.errors.append(fielderror.invalid(where, text, str(exc)))
            return
        for wrong, why in (
            (url.scheme != "https", "URL scheme must be https"),
            ("@" in url.netloc, "URL must not contain a username or password"),
            (bool(url.query), "URL must not contain a query"),
            (bool(url.fragment), "URL must not contain a fragment"),
        ):
            if wrong:
                self.errors.append(fielderror.invalid(where, text, why))

    def _audiences(self, told: Object, where: str) -> None:
        audiences = list(map(_text, _list(told.get("audiences"))))
        policy = _text(told.get("audienceMatchPolicy"))
        field_ = f"{where}.audiences"
        if not audiences:
            self.errors.append(fielderror.required(field_, f"at least one {field_} is required"))
            return
        for at, audience in enumerate(audiences):
            if not audience:
                self.errors.append(fielderror.required(f"{field_}[{at}]"))
            if audience in audiences[:at]:
                self.errors.append(fielderror.duplicate(f"{field_}[{at}]", audience))
        if len(audiences) > 1 and policy != "MatchAny":
            why = "audienceMatchPolicy must be MatchAny for multiple audiences"
            self.errors.append(fielderror.invalid(f"{where}.audienceMatchPolicy", policy, why))
        elif len(audiences) == 1 and policy not in ("", "MatchAny"):
            why = "audienceMatchPolicy must be empty or MatchAny for single audience"
            self.errors.append(fielderror.invalid(f"{where}.audienceMatchPolicy", policy, why))

    def _claim_rules(self) -> tuple[tuple[tuple[str, str], ...], tuple[Rule, ...]]:
        required: dict[str, str] = {}
        rules: dict[str, Rule] = {}
        for at, told in enumerate(map(_object, _list(self.jwt.get("claimValidationRules")))):
            where = f"{self.where}.claimValidationRules[{at}]"
            claim, expression = _text(told.get("claim")), _text(told.get("expression"))
            message, value = _text(told.get("message")), _text(told.get("requiredValue"))
            if claim and expression:
                self.errors.append(fielderror.invalid(where, claim, "claim and expression can't both be set"))
            elif claim:
                if message:
                    why = "may not be specified when claim is set"
                    self.errors.append(fielderror.invalid(f"{where}.message", message, why))
                if claim in required:
                    self.errors.append(fielderror.duplicate(f"{where}.claim", claim))
                required[claim] = value
            elif expression:
                if value:
                    why = "may not be specified when expression is set"
                    self.errors.append(fielderror.invalid(f"{where}.requiredValue", value, why))
                self._rule(rules, expressions.CLAIMS, expression, message, where)
                self._checking.append(expression)
            else:
                self.errors.append(fielderror.required(where, "claim or expression is required"))
        return tuple(required.items()), tuple(rules.values())

    def _user_rules(self) -> tuple[Rule, ...]:
        rules: dict[str, Rule] = {}
        for at, told in enumerate(map(_object, _list(self.jwt.get("userValidationRules")))):
            where, expression = f"{self.where}.userValidationRules[{at}]", _text(told.get("expression"))
            if not expression:
                self.errors.append(fielderror.required(f"{where}.expression"))
                continue
            self._rule(rules, expressions.USER, expression, _text(told.get("message")), where)
        return tuple(rules.values())

    def _rule(self, rules: dict[str, Rule], scope: Scope, expression: str, message: str, where: str) -> None:
        if expression in rules:
            self.errors.append(fielderror.duplicate(f"{where}.expression", expression))
            return
        program = self._compiled(expression, scope, f"{where}.expression", boolean=True)
        if program is not None:
            rules[expression] = Rule(program, message)

    def _compiled(self, text: str, scope: Scope, where: str, *, boolean: bool = False) -> Program | None:
        try:
            return expressions.compiled(text, scope, boolean=boolean)
        except CompileError as exc:
            told = str(exc) if str(exc).startswith("must") else f"{exc.title}: {exc}"
            self.errors.append(fielderror.invalid(where, text, told))
            return None

    def _mapping(self, told: Object, where: str, *, required: bool = False) -> Mapping:
        claim, expression, prefix = _text(told.get("claim")), _text(told.get("expression")), told.get("prefix")
        if claim and expression:
            self.errors.append(fielderror.invalid(where, "", "claim and expression can't both be set"))
        elif expression:
            if prefix is not None:
                why = "may not be specified when expression is set"
                self.errors.append(fielderror.invalid(f"{where}.prefix", prefix, why))
            return Mapping(expression=self._compiled(expression, expressions.CLAIMS, f"{where}.expression"))
        elif claim:
            if prefix is None:
                why = "prefix is required when claim is set. It can be set to an empty string to disable prefixing"
                self.errors.append(fielderror.required(f"{where}.prefix", why))
            return Mapping(claim, _text(prefix))
        elif required:
            self.errors.append(fielderror.required(where, "claim or expression is required"))
        return Mapping()

    def _uid(self, told: Object, where: str) -> Mapping:
        claim, expression = _text(told.get("claim")), _text(told.get("expression"))
        if claim and expression:
            self.errors.append(fielderror.invalid(where, "", "claim and expression can't both be set"))
        if expression and not claim:
            return Mapping(expression=self._compiled(expression, expressions.CLAIMS, f"{where}.expression"))
        return Mapping(claim)

    def _extra(self, given: Sequence[Any], where: str) -> tuple[tuple[str, Program], ...]:
        found: dict[str, Program] = {}
        seen: set[str] = set()
        for at, told in enumerate(map(_object, given)):
            key, expression, here = _text(told.get("key")), _text(told.get("valueExpression")), f"{where}[{at}]"
            self._extra_key(key, f"{here}.key")
            if key in seen:
                self.errors.append(fielderror.duplicate(f"{here}.key", key))
                continue
            seen.add(key)
            if not expression:
                self.errors.append(fielderror.required(f"{here}.valueExpression"))
                continue
            program = self._compiled(expression, expressions.CLAIMS, f"{here}.valueExpression")
            if program is not None:
                found[key] = program
                self._checking.append(expression)
        return tuple(found.items())

    def _extra_key(self, key: str, where: str) -> None:
        domain, _, path = key.partition("/")
        if not key:
            self.errors.append(fielderror.required(where))
        else:
            for why in names.domain_prefixed_path(key):
                shown = key if not domain or not path else path if why.startswith("Invalid path") else domain
                self.errors.append(fielderror.invalid(where, shown, why))
        if key != key.lower():
            self.errors.append(fielderror.invalid(where, key, "must be lowercase"))
        if any(domain == reserved or domain.endswith("." + reserved) for reserved in _RESERVED):
            why = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use"
            self.errors.append(fielderror.invalid(where, key, why))

    def _email(self, mappings: Object, where: str) -> None:
        """An address is not to be believed unless its issuer has verified it."""
        text = _text(_object(mappings.get("username")).get("expression"))
        if not text or not _names(text, "email"):
            return
        if not any(_names(each, "email_verified") for each in (text, *self._checking)):
            used = "claimMappings.username.expression"
            why = (
                f"claims.email_verified must be used in {used} or claimMappings.extra[*].valueExpression or "
                f"claimValidationRules[*].expression when claims.email is used in {used}"
            )
            self.errors.append(fielderror.invalid(f"{where}.username.expression", text, why))


def _names(text: str, claim: str) -> bool:
    try:
        return expressions.names_claim(text, claim)
    except CompileError:
        return False


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _object(value: Any) -> Object:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
