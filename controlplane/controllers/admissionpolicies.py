"""ValidatingAdmissionPolicies: whether their expressions fit the types of what they are about.

Warnings only: a policy works all the same, as the API server compiles it without types.

Source: k8s.io/apiserver/pkg/admission/plugin/policy/validating/typechecking.go;
k8s.io/kubernetes/pkg/controller/validatingadmissionpolicystatus.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from controlplane.controllers.discovery import discover
from controlplane.controllers.environment import Environment
from machinery.api.catalogue import VALIDATINGADMISSIONPOLICIES
from machinery.api.meta import Object, name_of
from machinery.api.resource import ResourceType
from machinery.cache.informer import Informer
from machinery.cel import types
from machinery.cel.declarations import ANYTHING, Declared, Field, Scope, scope_of
from machinery.cel.environment import compile_program
from machinery.cel.errors import CompileError
from machinery.cel.schema import declared_of
from machinery.cel.types import Type
from machinery.client.rest import APPLY, Client
from machinery.controller import Controller
from machinery.errors import NotFound

ACCOUNT = "validatingadmissionpolicy-status-controller"
MOST_TYPES = 10
_DEPTH = 40  # schemas of CustomResourceDefinitions contain themselves

Schemas = Mapping[str, Any]
"""components.schemas of an OpenAPI v3 document."""


# -- what a policy is about ------------------------------------------------------------------------------------------


def _plain(names: Iterable[str]) -> list[str]:
    """The names, sorted; none if one of them is a pattern."""
    found = sorted(names)
    return [] if any("*" in name for name in found) else found


def kinds_to_check(policy: Object, resources: Iterable[ResourceType]) -> list[ResourceType]:
    """The kinds that the policy's rules name outright, ten at most: patterns and subresources are left out."""
    known = {(r.group, r.version, r.plural): r for r in resources}
    found: dict[tuple[str, str, str], ResourceType] = {}
    for rule in (policy["spec"].get("matchConstraints") or {}).get("resourceRules") or ():
        plurals = sorted(p for p in rule.get("resources") or () if not {"*", "/"} & set(p))
        for group in _plain(rule.get("apiGroups") or ()):
            for version in _plain(rule.get("apiVersions") or ()):
                for plural in plurals:
                    resource = known.get((group, version, plural))
                    if resource is not None and len(found) < MOST_TYPES:
                        found[group, version, resource.kind] = resource
    return [found[which] for which in sorted(found)]


def expressions_of(policy: Object) -> Iterator[tuple[str, str]]:
    """(field, expression) of every validation and its message."""
    for index, validation in enumerate(policy["spec"].get("validations") or ()):
        for name in ("expression", "messageExpression"):
            if validation.get(name):
                yield f"spec.validations[{index}].{name}", validation[name]


# -- types -----------------------------------------------------------------------------------------------------------


def inlined(schema: Any, schemas: Schemas, depth: int = 0) -> Any:
    """A schema without references; what is nested too deep, or may be a number or a string, can be anything."""
    if not isinstance(schema, Mapping):
        return schema
    if reference := schema.get("$ref"):
        return inlined(schemas.get(str(reference).rpartition("/")[2], {}), schemas, depth)
    parts = schema.get("allOf")
    if isinstance(parts, list) and len(parts) == 1:
        return inlined({**{k: v for k, v in schema.items() if k != "allOf"}, **parts[0]}, schemas, depth)
    if depth > _DEPTH or (schema.get("oneOf") and not schema.get("type")) or schema.get("format") == "int-or-string":
        return {"x-kubernetes-int-or-string": True}
    made = dict(schema)
    if isinstance(properties := schema.get("properties"), Mapping):
        made["properties"] = {name: inlined(inner, schemas, depth + 1) for name, inner in properties.items()}
    for part in ("items", "additionalProperties"):
        if isinstance(schema.get(part), Mapping):
            made[part] = inlined(schema[part], schemas, depth + 1)
    if made.get("type") == "object" and not made.get("properties") and not made.get("additionalProperties"):
        return {"x-kubernetes-int-or-string": True}  # anything: FieldsV1, RawExtension
    return made


def declared_kind(schemas: Schemas, resource: ResourceType) -> Declared | None:
    """The type of a kind's objects; None if the document does not describe it."""
    wanted = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    for schema in schemas.values():
        if wanted in (schema.get("x-kubernetes-group-version-kind") or ()):
            return declared_of(inlined(schema, schemas), resource.kind)
    return None


def scope_for(policy: Object, kind: Declared, params: Declared | None) -> Scope:
    """What the policy's expressions can name when they are about this kind."""
    typed = {"object": kind, "oldObject": kind}
    typed["authorizer"] = Declared(Type("opaque", "kubernetes.authorization.Authorizer"))
    if policy["spec"].get("paramKind"):
        typed["params"] = params or ANYTHING
    variables: dict[str, Field] = {}

    def scope() -> Scope:
        # The request and the namespace are checked when the policy is stored.
        inner = Declared(Type("object", "kubernetes.variables"), fields=dict(variables))
        checks = {"authorizer.requestResource": Declared(Type("opaque", "kubernetes.authorization.ResourceCheck"))}
        return scope_of("request", "namespaceObject", **typed, **checks, variables=inner)

    for variable in policy["spec"].get("variables") or ():
        try:
            found = compile_program(variable["expression"], scope()).result
        except CompileError:
            found = types.DYN
        variables[variable["name"]] = Field(variable["name"], Declared(found))
    return scope()


def warnings_of(
    policy: Object, kinds: Iterable[tuple[ResourceType, Declared]], params: Declared | None
) -> list[Object]:
    """status.typeChecking.expressionWarnings."""
    scopes = [(resource, scope_for(policy, declared, params)) for resource, declared in kinds]
    found = []
    for where, expression in expressions_of(policy):
        told = []
        for resource, scope in scopes:
            try:
                compile_program(expression, scope)
            except CompileError as exc:
                told.append(f"{resource.group}/{resource.version}, Kind={resource.kind}: {exc}\n")
        if told:
            found.append({"fieldRef": where, "warning": "\n".join(told)})
    return found


# -- the hand --------------------------------------------------------------------------------------------------------


@dataclass
class PolicyChecker:
    """Checks one policy at a time."""

    policies: Informer
    client: Client
    documents: dict[str, Schemas] = field(default_factory=dict)
    """By the address that the API server gives an OpenAPI document; another content has another address."""

    async def reconcile(self, key: str) -> float | None:
        """Check the policy, if it has changed since it was checked last."""
        policy = self.policies.get(key)
        if policy is None:
            return None
        generation = policy["metadata"].get("generation", 0)
        if generation <= (policy.get("status") or {}).get("observedGeneration", 0):
            return None
        discovered = await discover(self.client)
        kinds = []
        for resource in kinds_to_check(policy, discovered.every_version):
            declared = await self._declared(resource)
            if declared is not None:
                kinds.append((resource, declared))
        params = None
        if reference := policy["spec"].get("paramKind"):
            resource_or_none = discovered.of_kind(reference.get("apiVersion", ""), reference.get("kind", ""))
            params = await self._declared(resource_or_none) if resource_or_none is not None else None
        warnings = warnings_of(policy, kinds, params)
        checking: Object = {"expressionWarnings": warnings} if warnings else {}
        await self._write(name_of(policy), {"observedGeneration": generation, "typeChecking": checking})
        return None

    async def _declared(self, resource: ResourceType) -> Declared | None:
        path = f"apis/{resource.api_version}" if resource.group else f"api/{resource.version}"
        index = await self.client.request("GET", "/openapi/v3")
        address = ((index.get("paths") or {}).get(path) or {}).get("serverRelativeURL")
        if not address:
            return None
        if address not in self.documents:
            self.documents = {
                k: v for k, v in self.documents.items() if k.partition("?")[0] != address.partition("?")[0]
            }
            document = await self.client.request("GET", address)
            self.documents[address] = (document.get("components") or {}).get("schemas") or {}
        return declared_kind(self.documents[address], resource)

    async def _write(self, name: str, status: Object) -> None:
        applied = {
            "apiVersion": VALIDATINGADMISSIONPOLICIES.api_version,
            "kind": VALIDATINGADMISSIONPOLICIES.kind,
            "metadata": {"name": name},
            "status": status,
        }
        query = {"fieldManager": ACCOUNT, "force": "true"}
        try:
            await self.client.patch(
                VALIDATINGADMISSIONPOLICIES, name, applied, content_type=APPLY, subresource="status", query=query
            )
        except NotFound:
            return


def build(env: Environment) -> list[Controller]:
    """The checker of policies."""
    policies = env.informer(VALIDATINGADMISSIONPOLICIES)
    checker = PolicyChecker(policies, env.client_for(ACCOUNT))
    workers = env.options.concurrent("validating-admission-policy-status")
    controller = Controller("validatingadmissionpolicy-status", checker.reconcile, workers=workers)
    policies.on_change(lambda old, new: controller.enqueue(name_of(new)) if new is not None else None)
    return [controller]
