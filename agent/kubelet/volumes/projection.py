"""What files a configMap, secret, downwardAPI or projected volume holds.

Source: pod API volume sources; k8s.io/kubernetes pkg/volume/{configmap,secret,downwardapi,projected}.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from agent.kubelet.container.environment import decoded
from agent.kubelet.container.errors import VolumeError
from agent.kubelet.pods import fieldref, spec
from agent.kubelet.pods.fieldref import PodFacts
from agent.kubelet.references import References
from agent.kubelet.volumes.atomicwriter import ProjectedFile
from agent.kubelet.volumes.tokens import Tokens
from agent.kubelet.volumes.trustbundles import TrustBundles
from machinery.api import meta
from machinery.api.meta import Object

DEFAULT_MODE = 0o644

Files = dict[str, ProjectedFile]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where contents come from."""

    references: References
    tokens: Tokens
    bundles: TrustBundles


def is_projected(volume: Object) -> bool:
    """Whether the volume's files are written by the kubelet."""
    return any(kind in volume for kind in ("configMap", "secret", "downwardAPI", "projected"))


async def files_of(pod: Object, volume: Object, facts: PodFacts, sources: Sources) -> Files:
    """The files of such a volume, by path. Raises VolumeError, ReferenceMissing."""
    if "projected" in volume:
        return await _projected(pod, volume["projected"], facts, sources)
    if "configMap" in volume:
        source = volume["configMap"]
        return await _config_map(pod, source, source["name"], _default_mode(source), sources)
    if "secret" in volume:
        source = volume["secret"]
        return await _secret(pod, source, source["secretName"], _default_mode(source), sources)
    source = volume["downwardAPI"]
    return _downward(pod, source.get("items") or (), _default_mode(source), facts)


def _default_mode(source: Object) -> int:
    mode = source.get("defaultMode")
    return DEFAULT_MODE if mode is None else int(mode)


async def _config_map(pod: Object, source: Object, name: str, mode: int, sources: Sources) -> Files:
    optional = bool(source.get("optional"))
    obj = await sources.references.config_map(meta.namespace_of(pod), name, optional=optional)
    return _chosen(decoded(obj, "configMap"), source.get("items"), mode, optional=optional)


async def _secret(pod: Object, source: Object, name: str, mode: int, sources: Sources) -> Files:
    optional = bool(source.get("optional"))
    obj = await sources.references.secret(meta.namespace_of(pod), name, optional=optional)
    return _chosen(decoded(obj, "secret"), source.get("items"), mode, optional=optional)


def _chosen(data: dict[str, bytes], items: Sequence[Object] | None, mode: int, *, optional: bool) -> Files:
    if not items:
        return {key: ProjectedFile(value, mode) for key, value in data.items()}
    files: Files = {}
    for item in items:
        if item["key"] not in data:
            if optional:
                continue
            raise VolumeError(f"references non-existent config key: {item['key']}")
        own = item.get("mode")
        files[item["path"]] = ProjectedFile(data[item["key"]], mode if own is None else int(own))
    return files


def _downward(pod: Object, items: Sequence[Object], mode: int, facts: PodFacts) -> Files:
    files: Files = {}
    for item in items:
        own = item.get("mode")
        try:
            if item.get("fieldRef"):
                value = fieldref.pod_field(pod, item["fieldRef"]["fieldPath"], facts)
            else:
                value = fieldref.resource_field(pod, None, item["resourceFieldRef"], facts)
        except ValueError as error:
            raise VolumeError(str(error)) from error
        files[item["path"]] = ProjectedFile(value.encode(), mode if own is None else int(own))
    return files


async def _projected(pod: Object, volume: Object, facts: PodFacts, sources: Sources) -> Files:
    mode = _default_mode(volume)
    pieces = [_piece(pod, source, mode, facts, sources) for source in volume.get("sources") or ()]
    files: Files = {}
    for found in await asyncio.gather(*pieces, return_exceptions=True):  # all at once, and the first error in order
        if isinstance(found, BaseException):
            raise found
        files |= found
    return files


async def _piece(pod: Object, source: Object, mode: int, facts: PodFacts, sources: Sources) -> Files:
    if of := source.get("configMap"):
        return await _config_map(pod, of, of["name"], mode, sources)
    if of := source.get("secret"):
        return await _secret(pod, of, of["name"], mode, sources)
    if of := source.get("downwardAPI"):
        return _downward(pod, of.get("items") or (), mode, facts)
    if of := source.get("serviceAccountToken"):
        token = await sources.tokens.token(pod, of.get("audience") or "", int(of.get("expirationSeconds") or 3600))
        return {of["path"]: _token_file(pod, token, mode)}
    if of := source.get("clusterTrustBundle"):
        return {of["path"]: ProjectedFile(await sources.bundles.anchors(of), mode)}
    raise VolumeError(f"projected volume source {', '.join(source)} is not supported")


def _token_file(pod: Object, token: str, mode: int) -> ProjectedFile:
    uid = common_user(pod)
    group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
    # A token is for the one who runs the containers, where that can be told; else it must be readable by anyone inside.
    if uid is not None or group is not None:
        mode = 0o600
    return ProjectedFile(token.encode(), mode, uid)


def common_user(pod: Object) -> int | None:
    """The user that all containers of a pod run as, if the spec says so."""
    users = {spec.effective_security(pod, c).get("runAsUser") for c in spec.all_containers(pod)}
    return users.pop() if len(users) == 1 else None
