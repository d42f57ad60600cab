"""Names that identities are made of: users, groups and extra keys with a meaning of their own.

Source: k8s.io/apiserver/pkg/authentication/{user,serviceaccount}.
"""

from __future__ import annotations

from dataclasses import replace

from controlplane.apiserver.request import User
from machinery.api.names import dns1123_label, dns1123_subdomain

AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
ANONYMOUS_NAME = "system:anonymous"
NODES = "system:nodes"
MASTERS = "system:masters"

CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
POD_NAME = "authentication.kubernetes.io/pod-name"
POD_UID = "authentication.kubernetes.io/pod-uid"
NODE_NAME = "authentication.kubernetes.io/node-name"
NODE_UID = "authentication.kubernetes.io/node-uid"

_SERVICE_ACCOUNT = "system:serviceaccount:"
_NODE = "system:node:"


def service_account_name(namespace: str, name: str) -> str:
    """The user name of a service account."""
    return f"{_SERVICE_ACCOUNT}{namespace}:{name}"


def service_account_groups(namespace: str) -> tuple[str, ...]:
    """The groups every service account of a namespace is in."""
    return "system:serviceaccounts", f"system:serviceaccounts:{namespace}"


def split_service_account(username: str) -> tuple[str, str] | None:
    """(namespace, name) if the user name is a service account's."""
    if not username.startswith(_SERVICE_ACCOUNT):
        return None
    namespace, colon, name = username.removeprefix(_SERVICE_ACCOUNT).partition(":")
    if not colon or dns1123_label(namespace) or dns1123_subdomain(name):
        return None
    return namespace, name


def split_node(username: str) -> str | None:
    """The node's name if the user name is a kubelet's."""
    name = username.removeprefix(_NODE)
    return name if username.startswith(_NODE) and not dns1123_subdomain(name) else None


def with_authenticated(user: User) -> User:
    """The user in the group of those who have proved who they are."""
    if user.name == ANONYMOUS_NAME or AUTHENTICATED in user.groups or UNAUTHENTICATED in user.groups:
        return user
    return replace(user, groups=(*user.groups, AUTHENTICATED))
