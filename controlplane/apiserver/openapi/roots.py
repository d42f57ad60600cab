"""OpenAPI v3 of what is no group's version: the roots of discovery, the version, the issuer of tokens.

Source: api/openapi-spec/v3; k8s.io/apiserver/pkg/endpoints/discovery, k8s.io/apiserver/pkg/server/routes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from controlplane.apiserver.openapi.definitions import Definitions
from controlplane.apiserver.openapi.v3 import (
    META,
    OUT,
    SECURITY,
    UNAUTHORIZED,
    Document,
    group_title,
    reference,
)

_VERSION = "io.k8s.apimachinery.pkg.version.Info"


@dataclass(frozen=True, slots=True)
class Root:
    """One path that is read: `answer` names what is answered, "" is text; `media` are its types."""

    operation: str
    tag: str
    description: str
    answer: str
    media: tuple[str, ...] = OUT


_ROOTS = {
    ".well-known/openid-configuration": Root(
        "getServiceAccountIssuerOpenIDConfiguration",
        "WellKnown",
        "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'",
        "",
        ("application/json",),
    ),
    "api": Root("getCoreAPIVersions", "core", "get available API versions", f"{META}APIVersions"),
    "apis": Root("getAPIVersions", "apis", "get available API versions", f"{META}APIGroupList"),
    "openid/v1/jwks": Root(
        "getServiceAccountIssuerOpenIDKeyset",
        "openid",
        "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)",
        "",
        ("application/jwk-set+json",),
    ),
    "version": Root(
        "getCodeVersion", "version", "get the version information for this server", _VERSION, ("application/json",)
    ),
}


def roots(groups: Iterable[str]) -> dict[str, Root]:
    """All of them, by path without its slashes, for a server of these named groups."""
    found = dict(_ROOTS)
    for group in groups:
        title = group_title(group)
        tag = title[0].lower() + title[1:]
        found[f"apis/{group}"] = Root(f"get{title}APIGroup", tag, "get information of a group", f"{META}APIGroup")
    return found


def document(path: str, root: Root, definitions: Definitions) -> Document:
    """The document of one."""
    schema = reference(root.answer) if root.answer else {"type": "string"}
    answer = {"description": "OK", "content": {media: {"schema": schema} for media in root.media}}
    operation = {
        "tags": [root.tag],
        "description": root.description,
        "operationId": root.operation,
        "responses": {"200": answer, **UNAUTHORIZED},
    }
    schemas = {"schemas": definitions.closure({root.answer})} if root.answer else {}
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": {f"/{path}/": {"get": operation}},
        "components": {**schemas, "securitySchemes": SECURITY},
    }
