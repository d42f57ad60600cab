"""Putting an API server together from its settings.

settings → storage (etcd) → server with authentication, authorisation, admission → serve until cancelled
"""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

from controlplane.apiserver.admission import factory as admission
from controlplane.apiserver.authn import factory as authn
from controlplane.apiserver.authz import factory as authz
from controlplane.apiserver.server import ApiServer
from controlplane.apiserver.settings import Settings
from controlplane.apiserver.storage.compaction import compact_regularly
from controlplane.apiserver.storage.contract import Storage
from controlplane.apiserver.storage.etcd.endpoints import TLS
from controlplane.apiserver.storage.etcd.storage import EtcdStorage
from controlplane.apiserver.tls import server_context
from machinery import collector
from machinery.clock import SystemClock
from machinery.errors import SettingsError, StorageUnavailable
from machinery.log import get_logger

if TYPE_CHECKING:
    from controlplane.apiserver.encryption.storage import EncryptedStorage

log = get_logger(__name__)

_START_SECONDS = 60.0  # how long etcd may take to answer at the start. Source: --storage-initialization-timeout


def etcd_storage(settings: Settings) -> EtcdStorage:
    """Storage on the etcd of the settings."""
    tls = TLS(settings.etcd_cafile, settings.etcd_certfile, settings.etcd_keyfile)
    return EtcdStorage(settings.etcd_servers, tls)


def encrypted(settings: Settings, inner: Storage) -> EncryptedStorage | None:
    """Storage that encrypts as the settings say; None if they don't. Raises SettingsError."""
    if not settings.encryption_provider_config:
        return None
    # Imported only where it is used: ciphers are slow to load.
    from controlplane.apiserver.encryption import configuration
    from controlplane.apiserver.encryption.storage import EncryptedStorage

    prefix = settings.etcd_prefix.rstrip("/") + "/"
    return EncryptedStorage(inner, configuration.load(settings.encryption_provider_config), prefix)


async def _reload_encryption(settings: Settings, storage: EncryptedStorage) -> None:
    from controlplane.apiserver.encryption.storage import reload_regularly

    await reload_regularly(storage, settings.encryption_provider_config, SystemClock())


async def serve(settings: Settings) -> None:
    """Run an API server until cancelled.

    Raises:
        SettingsError: something configured is wrong.
        StorageUnavailable: etcd can't be reached.
    """
    asyncio.get_running_loop().call_later(_START_SECONDS, gc.enable)  # a start that fails for long makes garbage, too
    tls = server_context(settings)
    storage = etcd_storage(settings)
    try:
        await _until_etcd_answers(storage)
        encrypting = encrypted(settings, storage)
        server = ApiServer(settings, encrypting or storage, (authn.build, authz.build, admission.build), tls=tls)
        async with server, asyncio.TaskGroup() as group:
            log.info("serving", address=settings.bind_address, port=server.port)
            if settings.etcd_compaction_interval_seconds:
                interval = settings.etcd_compaction_interval_seconds
                group.create_task(compact_regularly(storage, server.cacher.prefix, interval, SystemClock()))
            if encrypting is not None and settings.encryption_provider_config_automatic_reload:
                group.create_task(_reload_encryption(settings, encrypting))
            await server.ready()
            log.info("ready")
            collector.settled()
            await asyncio.Event().wait()
    finally:
        await storage.close()


async def _until_etcd_answers(storage: EtcdStorage) -> None:
    try:
        async with asyncio.timeout(_START_SECONDS):
            while True:
                try:
                    version = await storage.check()
                    break
                except StorageUnavailable as exc:
                    log.warning("waiting for etcd", reason=str(exc))
                    last = exc
                    await asyncio.sleep(1.0)
    except TimeoutError:
        raise SettingsError(f"--etcd-servers: {last}") from None
    log.info("connected to etcd", version=version)
