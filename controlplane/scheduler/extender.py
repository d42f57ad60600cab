"""Extenders: programs that have a say in filtering, scoring, preempting and binding, over HTTP.

Source: k8s.io/kube-scheduler/extender/v1; k8s.io/kubernetes/pkg/scheduler/extender.go.
"""

from __future__ import annotations

import base64
import ssl
import tempfile
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

from controlplane.scheduler.config.settings import ExtenderSettings
from controlplane.scheduler.framework import MAX_SCORE
from controlplane.scheduler.pod import Pod
from controlplane.scheduler.preemption import Candidate
from machinery.api.meta import Object, name_of
from machinery.client.bodies import read_up_to
from machinery.errors import NavarchError, SettingsError

_MAX_PRIORITY = 10
_LONGEST_ANSWER = 256 * 1024 * 1024


class ExtenderFailed(NavarchError):
    """An extender could not be reached, or its answer is none."""


class Extender:
    """One extender. Use as an async context manager."""

    def __init__(self, settings: ExtenderSettings) -> None:
        self.settings = settings
        self._tls = _tls(settings)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._tls if self._tls is not None else True)
        timeout = aiohttp.ClientTimeout(total=self.settings.timeout_seconds)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    def interested(self, pod: Pod) -> bool:
        """Whether it looks after a resource of the pod's; without such resources it looks after all pods."""
        managed = self.settings.managed_resources
        if not managed:
            return True
        containers = [*(pod.spec.get("containers") or ()), *(pod.spec.get("initContainers") or ())]
        return any(
            name in managed
            for container in containers
            for which in ("requests", "limits")
            for name in (container.get("resources") or {}).get(which) or ()
        )

    async def filter(self, pod: Pod, nodes: Mapping[str, Object]) -> tuple[set[str], dict[str, str], dict[str, str]]:
        """(names it lets through, failed ones with reasons, those preemption can't help). Raises ExtenderFailed."""
        answer = await self._send(self.settings.filter_verb, self._arguments(pod, nodes))
        if answer.get("error"):
            raise ExtenderFailed(str(answer["error"]))
        listed = answer.get("nodenames") if self.settings.node_cache_capable else None
        if listed is not None:
            unknown = next((name for name in listed if name not in nodes), None)
            if unknown is not None:
                raise ExtenderFailed(
                    f'extender "{self.settings.url_prefix}" claims a filtered node "{unknown}" '
                    "which is not found in the input node list"
                )
            passed = set(listed)
        else:
            passed = {name_of(node) for node in (answer.get("nodes") or {}).get("items") or ()}
        return passed, answer.get("failedNodes") or {}, answer.get("failedAndUnresolvableNodes") or {}

    async def prioritize(self, pod: Pod, nodes: Mapping[str, Object]) -> dict[str, int]:
        """Node name → what is added to its score. Raises ExtenderFailed."""
        answer = await self._send(self.settings.prioritize_verb, self._arguments(pod, nodes))
        if not isinstance(answer, list):
            raise ExtenderFailed(f"extender {self.settings.url_prefix} gave no list of priorities")
        factor = self.settings.weight * (MAX_SCORE // _MAX_PRIORITY)
        return {each["host"]: int(each["score"]) * factor for each in answer}

    async def preempt(self, pod: Pod, candidates: Mapping[str, Candidate]) -> dict[str, Candidate]:
        """The candidates it leaves, by node name, perhaps with other victims. Raises ExtenderFailed."""
        sent: dict[str, Any] = {"pod": pod.object}
        if self.settings.node_cache_capable:
            sent["nodeNameToMetaVictims"] = {
                name: {"pods": [{"uid": v.uid} for v in each.victims], "numPDBViolations": each.violations}
                for name, each in candidates.items()
            }
        else:
            sent["nodeNameToVictims"] = {
                name: {"pods": [v.object for v in each.victims], "numPDBViolations": each.violations}
                for name, each in candidates.items()
            }
        answer = await self._send(self.settings.preempt_verb, sent)
        left = {}
        for name, meta in (answer.get("nodeNameToMetaVictims") or {}).items():
            known = candidates.get(name)
            chosen = [each["uid"] for each in meta.get("pods") or ()]
            victims = [victim for victim in known.victims if victim.uid in chosen] if known else []
            if known is None or len(victims) != len(chosen):
                raise ExtenderFailed(
                    f"extender: {self.settings.url_prefix} claims to preempt a pod on node: {name}, "
                    "but the pod is not found on that node"
                )
            left[name] = Candidate(known.row, victims, int(meta.get("numPDBViolations") or 0))
        return left

    async def bind(self, pod: Pod, node_name: str) -> None:
        """Have it bind the pod. Raises ExtenderFailed."""
        sent = {"podName": pod.name, "podNamespace": pod.namespace, "podUID": pod.uid, "node": node_name}
        answer = await self._send(self.settings.bind_verb, sent)
        if answer.get("error"):
            raise ExtenderFailed(str(answer["error"]))

    def _arguments(self, pod: Pod, nodes: Mapping[str, Object]) -> Object:
        if self.settings.node_cache_capable:
            return {"pod": pod.object, "nodenames": list(nodes)}
        return {"pod": pod.object, "nodes": {"metadata": {}, "items": list(nodes.values())}}

    async def _send(self, verb: str, body: Object) -> Any:
        url = f"{self.settings.url_prefix.rstrip('/')}/{verb}"
        if self._session is None:
            raise ExtenderFailed(f"extender {url} is not open")
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.post(url, data=orjson.dumps(body), headers=headers) as response:
                if response.status != 200:
                    raise ExtenderFailed(f"failed {verb} with extender at URL {url}, code {response.status}")
                text = await read_up_to(response.content, _LONGEST_ANSWER)
        except (TimeoutError, aiohttp.ClientError, OSError) as exc:
            raise ExtenderFailed(f'Post "{url}": {exc or type(exc).__name__}') from exc
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError as exc:
            raise ExtenderFailed(f"extender at URL {url}: {exc}") from exc


def _tls(settings: ExtenderSettings) -> ssl.SSLContext | None:
    given = settings.tls
    if given is None:
        return None
    authority, data = given.get("caFile"), given.get("caData")
    context = ssl.create_default_context()
    try:
        if authority or data:
            context.load_verify_locations(authority, cadata=base64.b64decode(data).decode() if data else None)
        if given.get("insecure") or not (authority or data):
            # As upstream has it: HTTPS to an extender without a CA is encrypted and not verified.
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if given.get("certFile"):
            context.load_cert_chain(given["certFile"], given.get("keyFile"))
        elif given.get("certData"):
            _load_pair(context, given)
    except (OSError, ssl.SSLError, ValueError) as exc:
        raise SettingsError(f"extender {settings.url_prefix}: tlsConfig: {exc}") from exc
    return context


def _load_pair(context: ssl.SSLContext, given: Mapping[str, Any]) -> None:
    with tempfile.NamedTemporaryFile(prefix="navarch-extender-", suffix=".pem") as file:
        file.write(base64.b64decode(given["certData"]) + b"\n" + base64.b64decode(given.get("keyData") or ""))
        file.flush()
        context.load_cert_chain(file.name)


def binders(extenders: Sequence[Extender], pod: Pod) -> list[Extender]:
    """Those that bind such pods."""
    return [extender for extender in extenders if extender.settings.bind_verb and extender.interested(pod)]
