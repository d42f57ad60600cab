"""Who asks for what: the values that authentication, authorisation, admission and the handlers share.

Source: k8s.io/apiserver/pkg/endpoints/request (RequestInfo), authentication.k8s.io/v1 UserInfo.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from multidict import MultiMapping


@dataclass(frozen=True, slots=True)
class User:
    """An authenticated identity; `extra` maps lower-case keys to values."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = field(default_factory=dict, hash=False)


ANONYMOUS = User("system:anonymous", groups=("system:unauthenticated",))


@dataclass(slots=True)  # not frozen: one is made for each request, in a third of the time
class Credentials:
    """What a connection and its headers offer as proof of identity."""

    peer_certificates: tuple[bytes, ...]  # DER, the client's own first, as it showed them: not verified
    headers: MultiMapping[str]  # names without regard to case; some (Impersonate-Group) come several times
    peer_address: str = ""
    path: str = ""
    """What is asked for: some paths may be open to everybody."""


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """What a request asks for, from its method and path; `verb` is the API's (list, watch, …), not HTTP's."""

    verb: str
    path: str
    is_resource: bool = False
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    field_selector: str = ""
    label_selector: str = ""

    def __hash__(self) -> int:
        return hash((self.verb, self.path))
