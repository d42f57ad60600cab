"""One request and its answer, as handlers see them: free of the HTTP library's types, except for streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from multidict import MultiMapping

from controlplane.apiserver.http.pieces import Joined
from controlplane.apiserver.http.request import Request
from controlplane.apiserver.request import RequestInfo, User
from controlplane.apiserver.resources import Served
from controlplane.apiserver.routing import Query, Target
from machinery.api.resource import Subresource
from machinery.errors import TooLarge

JSON, YAML, PROTOBUF = "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"


@dataclass(slots=True)
class Answer:
    """A complete answer."""

    body: bytes | Joined
    content_type: str = JSON
    status: int = 200
    headers: Mapping[str, str] | None = None


@dataclass(slots=True)
class Exchange:
    """A request after authentication and authorisation, and what will be said besides the answer."""

    raw: Request
    method: str
    target: Target
    headers: MultiMapping[str]
    user: User
    body_limit: int
    warnings: list[str] = field(default_factory=list)
    """Texts for Warning headers; the same one is sent once."""
    audit_annotations: dict[str, str] = field(default_factory=dict)
    answer_headers: dict[str, str] = field(default_factory=dict)
    """Sent with whatever the answer is."""
    received: bytes = b""
    """The body, once it has been read."""
    initialised: Callable[[], None] | None = None
    """To be called when a watch has told what is there and only waits for events."""

    @property
    def query(self) -> Query:
        """The URL's parameters."""
        return self.target.query

    @property
    def info(self) -> RequestInfo:
        """What authorisation was asked about."""
        return self.target.info

    @property
    def served(self) -> Served:
        """The resource. Only for requests of one."""
        assert self.target.served is not None
        return self.target.served

    @property
    def subresource(self) -> Subresource | None:
        """The subresource, if one is asked for."""
        return self.target.subresource

    @property
    def content_type(self) -> str:
        """The body's media type, without parameters; "" if not told."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip()

    async def body(self) -> bytes:
        """The whole body.

        Raises:
            TooLarge: it is beyond what the server takes.
        """
        limit = self.body_limit
        length = self.headers.get("Content-Length", "")
        if length.isdigit() and int(length) > limit:
            raise TooLarge(f"Request entity too large: limit is {limit}")
        self.received = await self.raw.body.read(limit)
        return self.received
