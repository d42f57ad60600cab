"""What other parts of the server are told of changes."""

from __future__ import annotations

from controlplane.apiserver.testing import running_apiserver
from machinery.api.catalogue import PODS
from machinery.api.meta import Object, name_of
from machinery.client.config import ClientConfig
from machinery.client.rest import Client


async def test_objects_without_a_text_are_as_if_they_were_not_there() -> None:
    told: list[tuple[str, str]] = []

    def note(old: Object | None, new: Object | None) -> None:
        told.append((name_of(old) if old else "", name_of(new) if new else ""))

    async with (
        running_apiserver() as running,
        Client(ClientConfig(running.url, ca_data=running.ca, token=running.token), user_agent="t") as client,
    ):
        container = {"name": "c", "image": "i"}
        for name, node in (("free", {}), ("bound", {"nodeName": "n"})):
            metadata = {"name": name, "namespace": "default"}
            await client.create(PODS, {"metadata": metadata, "spec": {"containers": [container], **node}})
        running.server.reader.on_change(PODS, note, holding='"nodeName":')
        assert told == [("", "bound")]
        target = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "free"}, "target": {"name": "n"}}
        await client.patch(PODS, "free", {"metadata": {"labels": {"a": "b"}}}, "default")
        await client.create_subresource(PODS, "free", "binding", target, "default")
        await client.delete(PODS, "bound", "default", grace_seconds=0)
    assert (told[:2], told[-1]) == ([("", "bound"), ("", "free")], ("bound", ""))
