"""Flags that change how the server behaves: told, and done."""

from __future__ import annotations

import ssl

import aiohttp
import pytest

from controlplane.apiserver.admission import factory as admission
from controlplane.apiserver.flags import parse
from controlplane.apiserver.testing import running_apiserver
from machinery.api.catalogue import PODS
from machinery.client.config import ClientConfig
from machinery.client.rest import Client
from machinery.errors import SettingsError

_ETCD = "--etcd-servers=http://e"


def test_flags_are_told_by_upstreams_names() -> None:
    given = parse(
        [
            _ETCD,
            "--default-not-ready-toleration-seconds=7",
            "--default-unreachable-toleration-seconds=8",
            "--etcd-healthcheck-timeout=3s",
            "--etcd-readycheck-timeout=500ms",
            "--strict-transport-security-directives=max-age=31536000,includeSubDomains,preload",
        ]
    )
    assert (given.default_not_ready_toleration_seconds, given.default_unreachable_toleration_seconds) == (7, 8)
    assert (given.etcd_healthcheck_seconds, given.etcd_readycheck_seconds) == (3, 0.5)
    assert given.strict_transport_security_directives == ("max-age=31536000", "includeSubDomains", "preload")
    with pytest.raises(SettingsError, match="default-not-ready-toleration-seconds"):
        parse([_ETCD, "--default-not-ready-toleration-seconds=soon"])


async def test_they_are_obeyed() -> None:
    settings = parse(
        [
            _ETCD,
            "--default-not-ready-toleration-seconds=7",
            "--default-unreachable-toleration-seconds=8",
            "--strict-transport-security-directives=max-age=1,preload",
            "--disable-admission-plugins=ServiceAccount",
            "--service-cluster-ip-range=10.0.0.0/16",
        ]
    )
    async with running_apiserver(settings, factories=(admission.build,)) as server:
        async with Client(ClientConfig(server.url, ca_data=server.ca, token=server.token), user_agent="t") as client:
            spec = {"containers": [{"name": "c", "image": "i"}]}
            pod = await client.create(PODS, {"metadata": {"name": "p", "namespace": "default"}, "spec": spec})
            assert [each["tolerationSeconds"] for each in pod["spec"]["tolerations"]] == [7, 8]
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=server.ca.decode()))
        async with (
            aiohttp.ClientSession(server.url, connector=connector) as session,
            session.get("/version") as answer,
        ):
            assert answer.headers["Strict-Transport-Security"] == "max-age=1; preload"
