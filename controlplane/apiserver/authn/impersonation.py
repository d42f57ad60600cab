"""Acting as somebody else, as far as one may: the Impersonate-* headers.

Constrained modes come first: a right to act as a node, service account or user for some requests only. The mode that
last served a user is tried before the others, and the first refusal met is the one that is told.

Source: k8s.io/apiserver/pkg/endpoints/filters/impersonation, KEP-5284.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from multidict import MultiMapping

from controlplane.apiserver.authn import identity
from controlplane.apiserver.authn.requestheader import extra_of
from controlplane.apiserver.authz.refusal import forbidden
from controlplane.apiserver.handlers.contract import Authorize
from controlplane.apiserver.request import RequestInfo, User
from machinery.api.fielderror import show
from machinery.api.names import domain_prefixed_path
from machinery.errors import BadRequest, Forbidden
from machinery.text import encodable

_USER = "Impersonate-User"
_UID = "Impersonate-Uid"
_GROUP = "Impersonate-Group"
_EXTRA = "impersonate-extra-"
_AUTHENTICATION = "authentication.k8s.io"
_MANY = 4
_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class _Mode:
    """One way to be allowed; `name` is "" for the plain verb `impersonate`."""

    name: str
    applies: Callable[[User, User], bool]  # (wanted, requestor)


def _only_name(wanted: User) -> bool:
    return not (wanted.uid or wanted.groups or wanted.extra)


def _associated_node(wanted: User, requestor: User) -> bool:
    node = identity.split_node(wanted.name)
    return (
        node is not None
        and _only_name(wanted)
        and identity.split_service_account(requestor.name) is not None
        and requestor.extra.get(identity.NODE_NAME) == (node,)
    )


_MODES = (
    _Mode("associated-node", _associated_node),
    _Mode("arbitrary-node", lambda wanted, _: _only_name(wanted) and identity.split_node(wanted.name) is not None),
    _Mode(
        "serviceaccount",
        lambda wanted, _: _only_name(wanted) and identity.split_service_account(wanted.name) is not None,
    ),
    _Mode(
        "user-info",
        lambda wanted, _: (
            identity.split_node(wanted.name) is None and identity.split_service_account(wanted.name) is None
        ),
    ),
    _Mode("", lambda _wanted, _requestor: True),
)


class Impersonation:
    """Turns a user into the one he wants to act as."""

    def __init__(self, authorize: Authorize) -> None:
        self._authorize = authorize
        self._last: dict[str, _Mode] = {}

    async def __call__(self, user: User, headers: MultiMapping[str], request: RequestInfo) -> User:
        """Whom `user` acts as in this request. Raises Forbidden, BadRequest."""
        wanted = wanted_user(headers)
        if wanted is None:
            return user
        refusal: Forbidden | None = None
        first = self._last.get(user.name)
        for mode in (first, *_MODES) if first else _MODES:
            if (mode is first and refusal is not None) or not mode.applies(wanted, user):
                continue
            try:
                acted = await self._in_mode(mode, user, wanted, request)
            except Forbidden as exc:
                refusal = refusal or exc
                continue
            if len(self._last) >= _REMEMBERED:
                self._last.clear()
            self._last[user.name] = mode
            return acted
        assert refusal is not None  # the last mode always applies
        raise refusal

    async def _in_mode(self, mode: _Mode, user: User, wanted: User, request: RequestInfo) -> User:
        asking = user
        if mode.name == "associated-node":
            # Which node it is has been compared; the decision is to hold for all of them.
            keys = tuple(sorted(user.extra))
            asking = replace(user, extra={"authentication.kubernetes.io/associated-node-keys": keys})
        if mode.name:
            await self._require(asking, replace(request, verb=f"impersonate-on:{mode.name}:{request.verb}"))
        verb = f"impersonate:{mode.name}" if mode.name else "impersonate"
        acted = await self._as_name(mode, asking, wanted, verb)
        if wanted.uid:
            await self._require(asking, _attribute(verb, _AUTHENTICATION, "uids", wanted.uid))
        await self._as_groups(mode, asking, wanted, verb)
        await self._as_extra(mode, asking, wanted, verb)
        return _with_implied_group(acted)

    async def _as_name(self, mode: _Mode, asking: User, wanted: User, verb: str) -> User:
        group = _AUTHENTICATION if mode.name else ""
        asked, acted = _attribute(verb, group, "users", wanted.name), wanted
        if mode.name and (node := identity.split_node(wanted.name)) is not None:
            name = "*" if mode.name == "associated-node" else node
            asked, acted = replace(asked, resource="nodes", name=name), replace(wanted, groups=(identity.NODES,))
        elif account := identity.split_service_account(wanted.name):
            asked = replace(asked, resource="serviceaccounts", namespace=account[0], name=account[1])
            if not wanted.groups:
                acted = replace(wanted, groups=identity.service_account_groups(account[0]))
        await self._require(asking, asked)
        return acted

    async def _as_groups(self, mode: _Mode, asking: User, wanted: User, verb: str) -> None:
        asked = _attribute(verb, _AUTHENTICATION if mode.name else "", "groups", "")
        if mode.name and "" in wanted.groups:
            raise forbidden(asking, asked, "impersonating the empty string group is not allowed")
        if mode.name and identity.MASTERS in wanted.groups:
            asked = replace(asked, name=identity.MASTERS)
            raise forbidden(asking, asked, "impersonating the system:masters group is not allowed")
        if mode.name and len(wanted.groups) >= _MANY and await self._allowed(asking, replace(asked, name="*")):
            return
        for group in wanted.groups:
            await self._require(asking, replace(asked, name=group))

    async def _as_extra(self, mode: _Mode, asking: User, wanted: User, verb: str) -> None:
        asked = _attribute(verb, _AUTHENTICATION, "userextras", "")
        if mode.name and (wrong := _extra_error(wanted.extra)):
            raise forbidden(asking, asked, wrong)
        values = sum(map(len, wanted.extra.values()))
        everything = replace(asked, subresource="*", name="*")
        if mode.name and max(values, len(wanted.extra)) >= _MANY and await self._allowed(asking, everything):
            return
        for key, named in wanted.extra.items():
            for value in named:
                await self._require(asking, replace(asked, subresource=key, name=value))

    async def _allowed(self, user: User, asked: RequestInfo) -> bool:
        return (await self._authorize(user, asked))[0]

    async def _require(self, user: User, asked: RequestInfo) -> None:
        allowed, reason = await self._authorize(user, asked)
        if not allowed:
            raise forbidden(user, asked, reason)


def wanted_user(headers: MultiMapping[str]) -> User | None:
    """The user that the headers name, as they name it; None if they name none. Raises BadRequest."""
    name, uid = encodable(headers.get(_USER) or ""), encodable(headers.get(_UID) or "")
    groups = tuple(map(encodable, headers.getall(_GROUP, ())))
    extra = {encodable(k): tuple(map(encodable, v)) for k, v in extra_of(headers, (_EXTRA,)).items()}
    if name:
        return User(name, uid, groups, extra)
    if uid or groups or extra:
        shown = f'&user.DefaultInfo{{Name:"", UID:{show(uid)}, Groups:{_go_strings(groups)}, Extra:{_go_extra(extra)}}}'
        raise BadRequest(f"requested {shown} without impersonating a user name")
    return None


def _with_implied_group(user: User) -> User:
    if user.name == identity.ANONYMOUS_NAME:
        implied = identity.UNAUTHENTICATED
    elif identity.UNAUTHENTICATED in user.groups:
        return user
    else:
        implied = identity.AUTHENTICATED
    return user if implied in user.groups else replace(user, groups=(*user.groups, implied))


def _extra_error(extra: dict[str, tuple[str, ...]]) -> str:
    for key, values in extra.items():
        if not key:
            return "impersonating the empty string key in extra is not allowed"
        if wrong := domain_prefixed_path(key):
            told = f"extra.key: Invalid value: {show(key)}: {wrong[0]}"
            return f"impersonating an invalid key in extra is not allowed: {told}"
        if "" in values:
            return "impersonating the empty string value in extra is not allowed"
    return ""


def _attribute(verb: str, group: str, resource: str, name: str) -> RequestInfo:
    return RequestInfo(verb, "", is_resource=True, group=group, version="v1", resource=resource, name=name)


def _go_strings(values: Sequence[str]) -> str:
    """As Go prints []string with %#v."""
    return "[]string{" + ", ".join(map(show, values)) + "}" if values else "[]string(nil)"


def _go_extra(extra: dict[str, tuple[str, ...]]) -> str:
    if not extra:
        return "map[string][]string(nil)"
    return "map[string][]string{" + ", ".join(f"{show(k)}:{_go_strings(v)}" for k, v in sorted(extra.items())) + "}"
