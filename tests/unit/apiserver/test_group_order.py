"""In which order /apis tells the groups: clients take the first that has what they want.

Source: k8s.io/kube-aggregator/pkg/apiserver/handler_apis.go; kube-apiserver's apiVersionPriorities.
"""

from __future__ import annotations

from controlplane.apiserver.testing import running_apiserver
from machinery.client.config import ClientConfig
from machinery.client.rest import Client


async def test_the_aggregators_own_group_stands_first_and_others_by_priority() -> None:
    async with (
        running_apiserver() as running,
        Client(ClientConfig(running.url, ca_data=running.ca, token=running.token), user_agent="t") as client,
    ):
        names = [each["name"] for each in (await client.request("GET", "/apis"))["groups"]]
    assert names[:4] == ["apiregistration.k8s.io", "apps", "events.k8s.io", "authentication.k8s.io"]
    assert names.index("discovery.k8s.io") < names.index("flowcontrol.apiserver.k8s.io")
