"""ClusterTrustBundles in projected volumes: the trust anchors of one bundle, or of all bundles of a signer.

Source: KEP-3257; kubelet's clustertrustbundle manager.
"""

from __future__ import annotations

import re

from agent.kubelet.container.errors import VolumeError
from machinery.api import labels
from machinery.api.meta import Object, labels_of
from machinery.client.rest import Client
from machinery.errors import NotFound, StatusError, TransportError

_PATHS = tuple(f"/apis/certificates.k8s.io/{version}/clustertrustbundles" for version in ("v1beta1", "v1alpha1"))
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


class TrustBundles:
    """Reads them. One for the whole kubelet."""

    def __init__(self, client: Client | None) -> None:
        self._client = client

    async def anchors(self, source: Object) -> bytes:
        """The PEM certificates that a clusterTrustBundle source asks for. Raises VolumeError."""
        optional = bool(source.get("optional"))
        found = await self._find(source)
        if not found and not optional:
            what = source.get("name") or f"signer {source.get('signerName')}"
            raise VolumeError(f"unable to fetch ClusterTrustBundles: no ClusterTrustBundle found for {what}")
        bundles = [str((bundle.get("spec") or {}).get("trustBundle") or "") for bundle in found]
        unique = dict.fromkeys(pem.strip() for bundle in bundles for pem in _PEM.findall(bundle))
        return "".join(f"{pem}\n" for pem in sorted(unique)).encode()

    async def _find(self, source: Object) -> list[Object]:
        everything = await self._list()
        if source.get("name"):
            return [b for b in everything if b["metadata"]["name"] == source["name"]]
        selector = source.get("labelSelector")
        if selector is None:  # as the API says: no selector selects nothing, an empty one everything
            return []
        chosen = labels.from_selector(selector)
        return [
            b
            for b in everything
            if (b.get("spec") or {}).get("signerName") == source.get("signerName") and chosen.matches(labels_of(b))
        ]

    async def _list(self) -> list[Object]:
        if self._client is None:
            raise VolumeError("ClusterTrustBundles need an API server")
        for path in _PATHS:
            try:
                return list((await self._client.request("GET", path)).get("items") or ())
            except NotFound:
                continue
            except (StatusError, TransportError) as error:
                raise VolumeError(f"unable to fetch ClusterTrustBundles: {error}") from error
        raise VolumeError("ClusterTrustBundle projection is not supported: the API server has no such resource")
