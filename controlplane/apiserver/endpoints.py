"""Where the endpoints of a Service are, for what the API server itself connects to.

Source: pkg/registry/core/service/storage (ResourceLocation), staging/src/k8s.io/apiserver/pkg/util/proxy.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from controlplane.apiserver.reader import Reader
from machinery.api.catalogue import ENDPOINTS, ENDPOINTSLICES
from machinery.api.meta import Object, labels_of

SERVICE_LABEL = "kubernetes.io/service-name"


def in_slices(reader: Reader, namespace: str, service: str, port: str) -> Iterator[tuple[str, int]]:
    """Address and port number of each endpoint that is ready, or may be, of a service's port, by the port's name."""
    for piece in reader.list(ENDPOINTSLICES, namespace):
        if labels_of(piece).get(SERVICE_LABEL) == service:
            for endpoint in piece.get("endpoints") or ():
                if (endpoint.get("conditions") or {}).get("ready") is not False:
                    yield from itertools.product(endpoint.get("addresses") or (), _port_numbers(piece, port))


def ready_endpoints(reader: Reader, namespace: str, service: str, port: str) -> list[tuple[str, int]]:
    """The same; while there is none in slices, those of its Endpoints.

    A client may have waited for Endpoints, and either can be there first.
    """
    found = list(in_slices(reader, namespace, service, port))
    if not found:
        for subset in (reader.get(ENDPOINTS, namespace, service) or {}).get("subsets") or ():
            addresses = [each["ip"] for each in subset.get("addresses") or ()]
            found += itertools.product(addresses, _port_numbers(subset, port))
    return found


def _port_numbers(piece: Object, port: str) -> list[int]:
    return [p["port"] for p in piece.get("ports") or () if (p.get("name") or "") == port and p.get("port")]
