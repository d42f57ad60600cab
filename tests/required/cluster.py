"""A live cluster, seen as Kubernetes' conformance suite sees it: an administrator's client, kubectl, a namespace a test.

A test says with `@requirement("[sig-…] … [Conformance]")` which requirement of the suite (v1.36) it shows, by its full
name; parameters of `@pytest.mark.parametrize` may say it too, with `shows(…)`. `.ci/requirements` tells which are shown by none.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from lab_images import BUSYBOX

from lab.verbs import clients
from machinery.api.catalogue import NAMESPACES, PODS, SERVICEACCOUNTS
from machinery.api.meta import Object, condition
from machinery.api.resource import ResourceType
from machinery.client.rest import Client
from machinery.errors import NotFound

if TYPE_CHECKING:
    from live_lab import LiveLab

KUBECTL = clients.FOLDER / "tools" / "new" / "kubectl"
"""Of the server's version, as `navarch test required` prepares it."""
SECONDS = 60.0
_EVERY_SECONDS = 0.1


def requirement(name: str) -> pytest.MarkDecorator:
    """Marks the test that shows a requirement of the conformance suite, by its full name."""
    return pytest.mark.requirement(name)


def shows(*values: Any, name: str) -> Any:
    """A set of parameters that shows a requirement."""
    return pytest.param(*values, marks=requirement(name), id=name.removesuffix(" [Conformance]"))


@dataclass(frozen=True, slots=True)
class Ended:
    """A pod that ran to its end."""

    pod: Object
    log: str

    @property
    def phase(self) -> str:
        return str(self.pod["status"]["phase"])


@dataclass(frozen=True, slots=True)
class Cluster:
    """One namespace of a live cluster, and the way to all the rest of it."""

    lab: LiveLab
    client: Client
    namespace: str

    # --- objects

    async def create(self, resource: ResourceType, obj: Object) -> Object:
        """Create in the test's namespace, unless the object names another or the kind has none."""
        if resource.namespaced:
            obj = {**obj, "metadata": {"namespace": self.namespace, **obj.get("metadata", {})}}
        kind = {"apiVersion": resource.api_version, "kind": resource.kind}
        return await self.client.create(resource, kind | obj)

    async def get(self, resource: ResourceType, name: str) -> Object:
        return await self.client.get(resource, name, self.namespace if resource.namespaced else "")

    async def patch(self, resource: ResourceType, name: str, patch: Any, **options: Any) -> Object:
        """As Client.patch."""
        return await self.client.patch(resource, name, patch, self.namespace if resource.namespaced else "", **options)

    async def delete(self, resource: ResourceType, name: str, **options: Any) -> None:
        """Delete, and wait until it is gone."""
        namespace = self.namespace if resource.namespaced else ""
        await self.client.delete(resource, name, namespace, **options)
        await self.gone(resource, name)

    async def gone(self, resource: ResourceType, name: str) -> None:
        """Wait until it is gone."""

        async def gone() -> bool:
            try:
                await self.get(resource, name)
            except NotFound:
                return True
            return False

        await eventually(gone, f"{resource.plural}/{name} gone")

    # --- pods

    async def start(self, pod: Object) -> Object:
        """Create a pod and wait until it is ready."""
        name = (await self.create(PODS, pod))["metadata"]["name"]
        return await self.pod_that(name, is_ready, "ready")

    async def run(self, pod: Object) -> Ended:
        """Run a pod to its end; the log is its first container's."""
        made = await self.create(PODS, pod)
        name = made["metadata"]["name"]
        ended = await self.pod_that(name, lambda p: p["status"].get("phase") in ("Succeeded", "Failed"), "ended")
        return Ended(ended, await self.log(name, made["spec"]["containers"][0]["name"]))

    async def pod_that(
        self, name: str, holds: Callable[[Object], Any], what: str, *, seconds: float = SECONDS
    ) -> Object:
        """The pod as it is when something holds."""
        return await self.object_that(PODS, name, holds, what, seconds=seconds)

    async def object_that(
        self, resource: ResourceType, name: str, holds: Callable[[Object], Any], what: str, *, seconds: float = SECONDS
    ) -> Object:
        """The object as it is when it is there and something holds."""
        last: Object = {}

        async def as_wanted() -> bool:
            last.clear()
            with suppress(NotFound):
                last.update(await self.get(resource, name))
            return bool(last and holds(last))

        try:
            await eventually(as_wanted, f"{resource.plural}/{name} {what}", seconds)
        except AssertionError as exc:
            raise AssertionError(f"{exc}; its status: {orjson.dumps(last.get('status')).decode()}") from None
        return last

    async def log(self, pod: str, container: str = "", *options: str) -> str:
        return await self.kubectl("logs", pod, *(("-c", container) if container else ()), *options)

    async def exec(self, pod: str, *argv: str, container: str = "") -> str:
        """What a command in a container prints. Raises AssertionError when it fails."""
        return await self.kubectl("exec", pod, *(("-c", container) if container else ()), "--", *argv)

    async def kubectl(self, *argv: str, stdin: str = "", check: bool = True) -> str:
        """What kubectl prints, in the test's namespace; with `check` false what it says on stderr too."""
        process = await asyncio.create_subprocess_exec(
            KUBECTL,
            f"--namespace={self.namespace}",
            *argv,
            stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"KUBECONFIG": str(self.lab.layout.kubeconfig)},
        )
        try:
            async with asyncio.timeout(SECONDS):
                out, err = await process.communicate(stdin.encode() or None)
        except BaseException:
            process.kill()
            await process.wait()
            raise
        told = out.decode(errors="replace")
        if check:
            assert process.returncode == 0, f"kubectl {' '.join(argv)}: {told}{err.decode(errors='replace')}"
            return told
        return told + err.decode(errors="replace")

    @asynccontextmanager
    async def anothernamespace(self, **labels: str) -> AsyncIterator[Cluster]:
        """The same, with a second namespace."""
        async with namespace(self.client, labels) as name:
            yield replace(self, namespace=name)


def pod(name: str, *containers: Object, labels: dict[str, str] | None = None, **spec: Any) -> Object:
    """A pod that ends at once when it is told to, and is not restarted."""
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": list(containers)} | spec,
    }


def container(*argv: str, name: str = "c", image: str = BUSYBOX, **fields: Any) -> Object:
    """A container that runs a command (the image's own if there is none)."""
    return {"name": name, "image": image, **({"command": list(argv)} if argv else {}), **fields}


def shell(script: str, **fields: Any) -> Object:
    """A container that runs a script."""
    return container("sh", "-c", script, **fields)


def sleeper(**fields: Any) -> Object:
    """A container that does nothing, for as long as it is let."""
    return shell("trap 'exit 0' TERM; while :; do sleep 1; done", **fields)


def is_ready(found: Object) -> bool:
    return has_condition(found, "Ready")


def has_condition(found: Object, kind: str, status: str = "True") -> bool:
    told = condition(found.get("status", {}).get("conditions"), kind)
    return told is not None and bool(told["status"] == status)


async def eventually(ask: Callable[[], Awaitable[Any]], what: str, seconds: float = SECONDS) -> Any:
    """Ask until the answer is true, and return that."""
    deadline = time.monotonic() + seconds
    while not (found := await ask()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(_EVERY_SECONDS)
    return found


@asynccontextmanager
async def namespace(client: Client, labels: dict[str, str]) -> AsyncIterator[str]:
    """A namespace with a default service account, deleted at the end."""
    name = f"required-{secrets.token_hex(4)}"
    metadata = {"name": name, "labels": labels}
    await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    try:

        async def accounts() -> bool:
            return bool((await client.list(SERVICEACCOUNTS, name)).items)

        await eventually(accounts, "the default service account")
        yield name
    finally:
        await client.delete(NAMESPACES, name)
