"""How extension API servers learn whom to believe: the ConfigMap kube-system/extension-apiserver-authentication.

Source: pkg/controlplane/controller/clusterauthenticationtrust.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import orjson

from controlplane.apiserver.handlers.contract import Loopback
from controlplane.apiserver.settings import Settings
from machinery.api.catalogue import CONFIGMAPS
from machinery.api.meta import Object
from machinery.errors import AlreadyExists, NotFound

NAMESPACE: Final = "kube-system"
NAME: Final = "extension-apiserver-authentication"
_BEGIN: Final = "-----BEGIN CERTIFICATE-----"


def trusted(settings: Settings) -> dict[str, str]:
    """What this server trusts, as the ConfigMap's data; empty if that is nobody. Raises OSError."""
    data: dict[str, str] = {}
    if settings.client_ca_file:
        data["client-ca-file"] = Path(settings.client_ca_file).read_text()
    if settings.requestheader_client_ca_file:
        data["requestheader-client-ca-file"] = Path(settings.requestheader_client_ca_file).read_text()
        for key, words in (
            ("allowed-names", settings.requestheader_allowed_names),
            ("extra-headers-prefix", settings.requestheader_extra_headers_prefix),
            ("group-headers", settings.requestheader_group_headers),
            ("uid-headers", settings.requestheader_uid_headers),
            ("username-headers", settings.requestheader_username_headers),
        ):
            data[f"requestheader-{key}"] = orjson.dumps(list(words)).decode()
    return data


def merged(ours: dict[str, str], present: dict[str, str]) -> dict[str, str]:
    """What all API servers together trust: each adds its certificates and words, and takes none away."""
    made = {**present, **ours}
    for key in ours.keys() & present.keys():
        if key.endswith("-ca-file"):
            known = set(_certificates(ours[key]))
            made[key] = (
                ours[key].rstrip("\n")
                + "\n"
                + "".join(f"{text}\n" for text in _certificates(present[key]) if text not in known)
            )
        else:
            words = dict.fromkeys([*orjson.loads(ours[key]), *orjson.loads(present[key])])
            made[key] = orjson.dumps(list(words)).decode()
    return made


def _certificates(text: str) -> list[str]:
    return [f"{_BEGIN}{part}".strip() for part in text.split(_BEGIN)[1:]]


async def publish(api: Loopback, settings: Settings) -> None:
    """Write the ConfigMap, unless it says all this already. Raises NotFound while there is no kube-system."""
    ours = trusted(settings)
    if not ours:
        return
    try:
        found: Object = await api.get(CONFIGMAPS, NAME, NAMESPACE)
    except NotFound:
        try:
            await api.create(CONFIGMAPS, {"metadata": {"name": NAME, "namespace": NAMESPACE}, "data": ours}, NAMESPACE)
        except AlreadyExists:
            await publish(api, settings)
        return
    wanted = merged(ours, found.get("data") or {})
    if wanted != found.get("data"):
        await api.update(CONFIGMAPS, {**found, "data": wanted})
