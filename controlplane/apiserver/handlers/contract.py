"""How the other parts of the API server hang themselves into it: one `Extensions` value that the app is built with.

- who asks and whether they may: `authenticators`, `impersonate`, `authorizers`;
- what may be written: `admission`;
- resources that are answered and never stored (TokenReview, SubjectAccessReview, serviceaccounts/token): `virtual`;
- subresources that change their parent by rules of their own (certificatesigningrequests/approval): `updates`;
- paths outside the API (`/openid/v1/jwks`): `paths`;
- objects that must exist before the server is ready (RBAC's own roles): `start_hooks`.

Source: k8s.io/apiserver/pkg/registry/rest (Creater, NamedCreater), pkg/server hooks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from multidict import MultiMapping

from controlplane.apiserver.admission.contract import Plugin
from controlplane.apiserver.authn.contract import Authenticator
from controlplane.apiserver.authz.contract import Authorizer
from controlplane.apiserver.reader import Reader
from controlplane.apiserver.registry.strategy import Context
from controlplane.apiserver.request import RequestInfo, User
from controlplane.apiserver.settings import Settings
from machinery.api.fielderror import FieldError
from machinery.api.meta import Object
from machinery.api.resource import ResourceType


class Loopback(Protocol):
    """The API as the server itself uses it: as `system:apiserver`, not authorised, but admitted and validated.

    Names and argument order are those of `machinery.client.rest.Client`; the same StatusErrors are raised.
    """

    async def get(self, resource: ResourceType, name: str, namespace: str = "") -> Object:
        """The object as of now (consistent). Raises NotFound."""
        ...

    async def list(self, resource: ResourceType, namespace: str = "") -> Sequence[Object]:
        """All objects of the type as of now, or those of one namespace."""
        ...

    async def create(self, resource: ResourceType, obj: Object, namespace: str = "") -> Object:
        """Create; the object as stored. Raises AlreadyExists, Invalid, …"""
        ...

    async def update(self, resource: ResourceType, obj: Object, subresource: str = "") -> Object:
        """Replace by metadata.name and namespace, conditional on metadata.resourceVersion when set. Raises Conflict."""
        ...

    async def delete(
        self, resource: ResourceType, name: str, namespace: str = "", *, uid: str = "", asking: bool = True
    ) -> None:
        """Delete; `asking`: whether admission has a say. Raises NotFound; Conflict if `uid` is given and differs."""
        ...


@dataclass(slots=True)
class Call:
    """A create on a virtual resource, after authorisation.

    `object` is the caller's own copy of the body: type-checked, pruned and defaulted; the handler may change it.
    """

    user: User
    resource: ResourceType
    subresource: str
    namespace: str
    name: str  # of the parent, for a subresource; else ""
    object: Object
    now: str  # RFC 3339, whole seconds
    dry_run: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)  # lower-case names
    warnings: list[str] = field(default_factory=list)  # sent to the client as Warning headers


VirtualHandler = Callable[[Call], Awaitable[Object]]
"""Answers a create with the object to send (with apiVersion and kind), or raises a StatusError. Answered with 201."""


@dataclass(frozen=True, slots=True)
class UpdateRules:
    """How a subresource speaking its parent's kind changes it (status has the parent strategy's own functions)."""

    prepare: Callable[[Object, Object, Context], None]
    """(new in place, old, context): keep everything that this subresource may not change."""

    validate: Callable[[Object, Object], list[FieldError]]
    """(new, old): what is wrong."""


@dataclass(frozen=True, slots=True)
class PathAnswer:
    """The answer of a path outside the API."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


PathHandler = Callable[[Mapping[str, str]], Awaitable[PathAnswer]]
"""Answers GET of an exact path, given the request's headers (lower-case names); the request is authorised before."""

StartHook = Callable[[Loopback, Reader], Awaitable[None]]
"""Runs once the server can read and write; may retry by raising (it is run again after a second until it succeeds)."""

Impersonate = Callable[[User, MultiMapping[str], RequestInfo], Awaitable[User]]
"""(user, headers, what is asked for) → whom the user acts as. Called only if a header starts with `impersonate-`.

The headers are those of `Credentials`: a name may come several times. What is asked for matters, because a user may
be allowed to act as somebody for some requests only. Raises Forbidden if the user may not, BadRequest as upstream
does for malformed headers.
"""


async def _nobody_else(user: User, headers: MultiMapping[str], request: RequestInfo) -> User:
    return user


@dataclass(frozen=True, slots=True)
class Extensions:
    """What hangs into the server. Combine several with `|`: sequences are joined in order, mappings united."""

    authenticators: Sequence[Authenticator] = ()
    """Tried in order; the first that knows the user decides; if none does, the answer is 401."""

    impersonate: Impersonate = _nobody_else

    authorizers: Sequence[Authorizer] = ()
    """Asked in order; nobody's opinion is a refusal; none at all allows everything."""

    admission: Sequence[Plugin] = ()
    """Run in order: all that handle the operation `admit`, then (after validation) all of them `validate`."""

    virtual: Mapping[tuple[ResourceType, str], VirtualHandler] = field(default_factory=dict)
    """By (resource, subresource or "")."""

    updates: Mapping[tuple[ResourceType, str], UpdateRules] = field(default_factory=dict)
    """By (resource, subresource)."""

    paths: Mapping[str, PathHandler] = field(default_factory=dict)

    start_hooks: Mapping[str, StartHook] = field(default_factory=dict)
    """By upstream's name (`rbac/bootstrap-roles`); each is the check `poststarthook/NAME` of /readyz and /livez."""

    closers: Sequence[Callable[[], Awaitable[None]]] = ()
    """Awaited when the server has stopped: they release connections to webhooks."""

    def __or__(self, other: Extensions) -> Extensions:
        return replace(
            self,
            authenticators=(*self.authenticators, *other.authenticators),
            impersonate=other.impersonate if self.impersonate is _nobody_else else self.impersonate,
            authorizers=(*self.authorizers, *other.authorizers),
            admission=(*self.admission, *other.admission),
            virtual={**self.virtual, **other.virtual},
            updates={**self.updates, **other.updates},
            paths={**self.paths, **other.paths},
            start_hooks={**self.start_hooks, **other.start_hooks},
            closers=(*self.closers, *other.closers),
        )


class ExtensionsFactory(Protocol):
    """How a part makes its Extensions: given how to look at objects and how to write them.

    The authn, authz and admission packages each offer one as `build` in their `factory.py`; `settings` is the
    server's (controlplane.apiserver.settings.Settings), `authorize` decides as the whole server does (for
    SubjectAccessReview, impersonation, escalation checks).
    """

    def __call__(self, settings: Settings, reader: Reader, loopback: Loopback, authorize: Authorize) -> Extensions:
        """Make the part's extensions; starts nothing."""
        ...


Authorize = Callable[[User, RequestInfo], Awaitable[tuple[bool, str]]]
"""(user, request) → (allowed, reason): the decision of all authorisers together."""
