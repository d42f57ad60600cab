"""Getting the image of a container: policies, credentials, back-off, and few pulls at a time.

Source: kubelet's images/image_manager.go; Images (pull policy, back-off).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from agent.cri import api_pb2 as pb
from agent.cri.client import CriClient
from agent.cri.errors import CriError, CriUnavailable
from agent.kubelet import metrics
from agent.kubelet.backoff import Backoff
from agent.kubelet.container import pullsecrets
from agent.kubelet.container.credentialproviders import CredentialProviders
from agent.kubelet.container.errors import ImageError
from agent.kubelet.container.imagename import with_default_tag
from agent.kubelet.settings import Settings
from machinery.api import meta
from machinery.api.meta import Object
from machinery.settings import show_duration

Tell = Callable[[str, str, str], None]
"""Records an event about the container: (Normal or Warning, reason, message)."""

_FIRST_SECONDS, _LONGEST_SECONDS = 10.0, 300.0


class _Rate:
    """So many pulls a second, some of them at once."""

    def __init__(self, per_second: int, burst: int) -> None:
        self._per_second, self._burst = per_second, burst
        self._tokens, self._filled_at = float(burst), time.monotonic()

    def take(self) -> bool:
        if self._per_second <= 0:
            return True
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._per_second)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class ImageManager:
    """Makes sure that images are there. One for the whole kubelet."""

    def __init__(self, cri: CriClient, root_dir: str, settings: Settings, providers: CredentialProviders) -> None:
        parallel = settings.parallel_pulls
        self._cri = cri
        self._providers = providers
        self._root_dir = root_dir
        self._backoff = Backoff(_FIRST_SECONDS, _LONGEST_SECONDS)
        self._errors: dict[str, str] = {}
        self._failed_at: dict[str, float] = {}
        self._pulling: dict[tuple[str, bytes], asyncio.Task[str]] = {}
        self._slots: AbstractAsyncContextManager[Any] = asyncio.Semaphore(parallel) if parallel else nullcontext()
        self._rate = _Rate(settings.pull_qps, settings.pull_burst)
        self.pull_seconds: dict[str, float] = {}  # how long pods have waited for their images, by uid
        self.used: dict[str, float] = {}  # when an image was last asked for, by reference: for garbage collection

    async def ensure(
        self,
        pod: Object,
        container: Object,
        secrets: Sequence[Object],
        sandbox_config: pb.PodSandboxConfig,
        tell: Tell,
        runtime_handler: str = "",
    ) -> pb.Image:
        """The image of a container, pulled if its policy says so. Raises ImageError."""
        wanted = container.get("image") or ""
        try:
            name = with_default_tag(wanted)
        except ValueError as error:
            message = f'Failed to apply default image tag "{wanted}": {error}'
            tell("Warning", "InspectFailed", message)
            raise ImageError(message, reason="InvalidImageName") from error
        image_spec = pb.ImageSpec(image=name, user_specified_image=wanted, runtime_handler=runtime_handler)
        self.used[name] = time.time()
        policy = container.get("imagePullPolicy") or ("Always" if name.endswith(":latest") else "IfNotPresent")
        present = await self._inspect(image_spec, wanted, tell)
        if present is not None and policy != "Always":
            tell(
                "Normal",
                "Pulled",
                f'Container image "{wanted}" already present on machine and can be accessed by the pod',
            )
            return present
        if policy == "Never":
            message = f'Container image "{wanted}" is not present with pull policy of Never'
            tell("Warning", "ErrImageNeverPull", message)
            raise ImageError(message, reason="ErrImageNeverPull")
        return await self._pull(pod, image_spec, wanted, secrets, sandbox_config, tell)

    async def _inspect(self, image_spec: pb.ImageSpec, wanted: str, tell: Tell) -> pb.Image | None:
        try:
            return await self._cri.image_status(image_spec)
        except CriError as error:
            message = f'Failed to inspect image "{wanted}": {error}'
            tell("Warning", "InspectFailed", message)
            raise ImageError(message, reason="ImageInspectError") from error

    async def _pull(
        self,
        pod: Object,
        image_spec: pb.ImageSpec,
        wanted: str,
        secrets: Sequence[Object],
        sandbox_config: pb.PodSandboxConfig,
        tell: Tell,
    ) -> pb.Image:
        key = f"{meta.uid_of(pod)}_{image_spec.image}"
        if self._backoff.remaining(key, self._failed_at.get(key, 0.0)) > 0:
            message = f'Back-off pulling image "{wanted}"'
            tell("Normal", "BackOff", message)
            before = self._errors.get(key)
            raise ImageError(f"{message}: {before}" if before else message, reason="ImagePullBackOff")
        tell("Normal", "Pulling", f'Pulling image "{wanted}"')
        asked_at = time.monotonic()
        try:
            began_at = await self._pull_with_any(image_spec, secrets, sandbox_config)
        except CriError as error:
            self._failed_at[key] = time.time()
            self._backoff.next(key)
            message = f'Failed to pull image "{wanted}": {error}'
            reason = "RegistryUnavailable" if isinstance(error, CriUnavailable) else "ErrImagePull"
            self._errors[key] = f"{reason}: {error}"
            tell("Warning", "Failed", message)
            raise ImageError(str(error), reason=reason) from error
        done_at = time.monotonic()
        self._backoff.forget(key)
        self._errors.pop(key, None)
        present = await self._inspect(image_spec, wanted, tell)
        if present is None:
            raise ImageError(f'image "{wanted}" is gone right after it was pulled', reason="ErrImagePull")
        metrics.IMAGE_PULL.labels(metrics.size_label(present.size)).observe(done_at - began_at)
        self.pull_seconds[meta.uid_of(pod)] = self.pull_seconds.get(meta.uid_of(pod), 0.0) + done_at - asked_at
        tell(
            "Normal",
            "Pulled",
            f'Successfully pulled image "{wanted}" in {show_duration(round(done_at - began_at, 3))} '
            f"({show_duration(round(done_at - asked_at, 3))} including waiting). Image size: {present.size} bytes.",
        )
        return present

    async def _pull_with_any(
        self, image_spec: pb.ImageSpec, secrets: Sequence[Object], sandbox_config: pb.PodSandboxConfig
    ) -> float:
        """Pull with the first credential that works; when the pull itself began (monotonic seconds)."""
        sources = pullsecrets.from_secrets(secrets) + pullsecrets.from_node(self._root_dir)
        sources += await self._providers.auths(image_spec.image)
        candidates: list[pb.AuthConfig | None] = [*pullsecrets.credentials_for(image_spec.image, sources)] or [None]
        last: CriError | None = None
        async with self._slots:
            began_at = time.monotonic()
            if not self._rate.take():
                raise CriError("ResourceExhausted", "pull QPS exceeded")
            for auth in candidates:
                try:
                    await self._shared_pull(image_spec, auth, sandbox_config)
                except CriError as error:
                    last = error
                else:
                    return began_at
        assert last is not None
        raise last

    async def _shared_pull(
        self, image_spec: pb.ImageSpec, auth: pb.AuthConfig | None, sandbox_config: pb.PodSandboxConfig
    ) -> None:
        """Pull, together with others who want the same with the same credential."""
        key = (image_spec.image, auth.SerializeToString() if auth is not None else b"")
        task = self._pulling.get(key)
        if task is None:
            task = asyncio.create_task(self._cri.pull_image(image_spec, auth, sandbox_config))
            self._pulling[key] = task
            task.add_done_callback(lambda _: self._pulling.pop(key, None))
        # One waiter's cancellation must not end the pull for the others.
        await asyncio.shield(task)

    async def close(self) -> None:
        """End pulls under way."""
        tasks = list(self._pulling.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def retry_in(self, pod: Object, container: Object) -> float:
        """Seconds until a pull of this container's image may be tried again."""
        try:
            name = with_default_tag(container.get("image") or "")
        except ValueError:
            return _LONGEST_SECONDS
        key = f"{meta.uid_of(pod)}_{name}"
        return self._backoff.remaining(key, self._failed_at.get(key, 0.0))

    def forget_pod(self, uid: str) -> None:
        """The pod is gone, and its back-offs with it."""
        self._backoff.forget_prefix(f"{uid}_")
        self.pull_seconds.pop(uid, None)
        for table in (self._errors, self._failed_at):
            for key in [key for key in table if key.startswith(f"{uid}_")]:
                del table[key]
