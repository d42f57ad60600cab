"""Impersonation: whom headers name, who may act as them, and for which requests."""

from __future__ import annotations

import pytest
from auth_store import asks
from multidict import CIMultiDict

from controlplane.apiserver.authn.impersonation import Impersonation, wanted_user
from controlplane.apiserver.request import RequestInfo, User
from machinery.errors import BadRequest, Forbidden

JANE = User("jane")
LIST = asks("list", "pods", namespace="x")


class Rights:
    """Allows what is listed as `verb resource[/subresource] name`, `*` for any; remembers what was asked."""

    def __init__(self, *allowed: str) -> None:
        self._allowed = allowed
        self.asked: list[str] = []

    async def __call__(self, user: User, request: RequestInfo) -> tuple[bool, str]:
        resource = f"{request.resource}/{request.subresource}" if request.subresource else request.resource
        self.asked.append(f"{request.verb} {resource} {request.name}")
        for right in self._allowed:
            verb, what, name = right.split()
            if verb in ("*", request.verb) and what in ("*", resource) and name in ("*", request.name):
                return True, ""
        return False, ""


async def acting(rights: Rights, *headers: tuple[str, str], user: User = JANE) -> User:
    return await Impersonation(rights)(user, CIMultiDict(headers), LIST)


async def test_nothing_named_changes_nothing() -> None:
    assert await acting(Rights()) is JANE


async def test_a_user_with_groups_uid_and_extra() -> None:
    rights = Rights("impersonate users joe", "impersonate groups *", "impersonate uids u", "impersonate userextras/s *")
    headers = [
        ("Impersonate-User", "joe"),
        ("Impersonate-Group", "a"),
        ("Impersonate-Group", "b"),
        ("Impersonate-Uid", "u"),
        ("Impersonate-Extra-S", "1"),
        ("Impersonate-Extra-S", "2"),
    ]
    assert await acting(rights, *headers) == User("joe", "u", ("a", "b", "system:authenticated"), {"s": ("1", "2")})


async def test_each_part_needs_its_right() -> None:
    headers = ("Impersonate-User", "joe"), ("Impersonate-Group", "system:masters")
    with pytest.raises(Forbidden) as refused:
        await acting(Rights("impersonate users *"), *headers)
    # What is told is the first refusal met: that of the constrained mode.
    assert refused.value.message == (
        'pods is forbidden: User "jane" cannot impersonate-on:user-info:list resource "pods" '
        'in API group "" in the namespace "x"'
    )
    impersonation = Impersonation(Rights("impersonate users *"))
    await impersonation(JANE, CIMultiDict([("Impersonate-User", "joe")]), LIST)
    with pytest.raises(Forbidden, match='cannot impersonate resource "groups"'):
        await impersonation(JANE, CIMultiDict(headers), LIST)


async def test_service_accounts_have_their_groups() -> None:
    acted = await acting(
        Rights("impersonate serviceaccounts robot"), ("Impersonate-User", "system:serviceaccount:x:robot")
    )
    assert acted.groups == ("system:serviceaccounts", "system:serviceaccounts:x", "system:authenticated")


async def test_anonymous_is_not_authenticated() -> None:
    acted = await acting(Rights("* * *"), ("Impersonate-User", "system:anonymous"))
    assert acted.groups == ("system:unauthenticated",)
    acted = await acting(
        Rights("impersonate users *", "impersonate groups *"),
        ("Impersonate-User", "joe"),
        ("Impersonate-Group", "system:unauthenticated"),
    )
    assert acted.groups == ("system:unauthenticated",)


async def test_constrained_impersonation_needs_both_rights_and_never_masters() -> None:
    rights = Rights("impersonate-on:user-info:list pods *", "impersonate:user-info users joe")
    assert (await acting(rights, ("Impersonate-User", "joe"))).name == "joe"
    with pytest.raises(Forbidden):
        await acting(Rights("impersonate:user-info users joe"), ("Impersonate-User", "joe"))
    everything = Rights("impersonate-on:user-info:list * *", "impersonate:user-info * *")
    with pytest.raises(Forbidden, match="impersonating the system:masters group is not allowed"):
        await acting(everything, ("Impersonate-User", "joe"), ("Impersonate-Group", "system:masters"))


async def test_a_node_agent_acts_as_its_own_node_alone() -> None:
    rights = Rights("impersonate-on:associated-node:list pods *", "impersonate:associated-node nodes *")
    agent = User(
        "system:serviceaccount:x:agent", extra={"authentication.kubernetes.io/node-name": ("w1",), "other": ("o",)}
    )
    acted = await acting(rights, ("Impersonate-User", "system:node:w1"), user=agent)
    assert acted == User("system:node:w1", groups=("system:nodes", "system:authenticated"))
    assert "impersonate:associated-node nodes *" in rights.asked
    with pytest.raises(Forbidden):
        await acting(rights, ("Impersonate-User", "system:node:w2"), user=agent)


async def test_the_mode_that_served_last_is_tried_first() -> None:
    rights = Rights("impersonate users *")
    impersonation = Impersonation(rights)
    headers = CIMultiDict([("Impersonate-User", "joe")])
    await impersonation(JANE, headers, LIST)
    rights.asked.clear()
    await impersonation(JANE, headers, LIST)
    assert rights.asked == ["impersonate users joe"]


@pytest.mark.parametrize(
    ("headers", "shown"),
    [
        (
            [("Impersonate-Group", "a")],
            'Name:"", UID:"", Groups:[]string{"a"}, Extra:map[string][]string(nil)',
        ),
        ([("Impersonate-Uid", "x")], 'Name:"", UID:"x", Groups:[]string(nil), Extra:map[string][]string(nil)'),
        (
            [("Impersonate-Extra-B", "1"), ("Impersonate-Extra-A", "2")],
            'Name:"", UID:"", Groups:[]string(nil), Extra:map[string][]string{"a":[]string{"2"}, "b":[]string{"1"}}',
        ),
    ],
)
def test_parts_of_nobody_make_no_sense(headers: list[tuple[str, str]], shown: str) -> None:
    with pytest.raises(BadRequest) as refused:
        wanted_user(CIMultiDict(headers))
    assert refused.value.message == f"requested &user.DefaultInfo{{{shown}}} without impersonating a user name"


def test_extra_keys_are_unescaped_and_lower() -> None:
    wanted = wanted_user(CIMultiDict([("Impersonate-User", "joe"), ("Impersonate-Extra-Acme.com%2Fproject", "p")]))
    assert wanted is not None
    assert wanted.extra == {"acme.com/project": ("p",)}
