"""Which endpoints a request to services/NAME/proxy may go to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from controlplane.apiserver.endpoints import ready_endpoints
from controlplane.apiserver.reader import Reader
from machinery.api.catalogue import ENDPOINTS, ENDPOINTSLICES
from machinery.api.meta import Object
from machinery.api.resource import ResourceType


@dataclass
class _Held:
    slices: list[Object] = field(default_factory=list)
    endpoints: Object | None = None

    def list(self, resource: ResourceType, namespace: str = "") -> list[Object]:
        assert (resource, namespace) == (ENDPOINTSLICES, "default")
        return self.slices

    def get(self, resource: ResourceType, namespace: str, name: str) -> Object | None:
        assert (resource, namespace, name) == (ENDPOINTS, "default", "web")
        return self.endpoints


def _slice(service: str, port: str, *endpoints: Object) -> Object:
    labels = {"kubernetes.io/service-name": service}
    return {"metadata": {"labels": labels}, "ports": [{"name": port, "port": 80}], "endpoints": list(endpoints)}


def _found(held: _Held, port: str = "http") -> list[tuple[str, int]]:
    return ready_endpoints(cast(Reader, held), "default", "web", port)


_ENDPOINTS: Object = {"subsets": [{"addresses": [{"ip": "192.0.2.9"}], "ports": [{"name": "http", "port": 8080}]}]}


def test_slices_tell_those_that_are_ready() -> None:
    ready, unknown = {"addresses": ["192.0.2.1"], "conditions": {"ready": True}}, {"addresses": ["192.0.2.2"]}
    gone = {"addresses": ["192.0.2.3"], "conditions": {"ready": False}}
    pieces = [_slice("web", "http", ready, gone), _slice("web", "http", unknown), _slice("other", "http", ready)]
    held = _Held([*pieces, _slice("web", "metrics", {"addresses": ["192.0.2.4"]})], _ENDPOINTS)
    assert _found(held) == [("192.0.2.1", 80), ("192.0.2.2", 80)]


def test_endpoints_tell_while_there_is_no_slice() -> None:
    assert _found(_Held([], _ENDPOINTS)) == [("192.0.2.9", 8080)]
    assert _found(_Held([], _ENDPOINTS), "metrics") == []
    assert _found(_Held()) == []
