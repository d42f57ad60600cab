"""Profiles as configuration makes them, on informers that never start: no claims, no classes, no workloads."""

from __future__ import annotations

from typing import Any

from controlplane.scheduler import profiles
from controlplane.scheduler.cluster import Workloads
from controlplane.scheduler.config import file
from controlplane.scheduler.config.settings import API_VERSION, DEFAULT_NAME
from controlplane.scheduler.dynamic.cycle import Devices
from controlplane.scheduler.framework import Profile
from controlplane.scheduler.nodes import NodeTable
from controlplane.scheduler.recorder import Recorder
from controlplane.scheduler.storage import Storage
from machinery.cache.informer import Informers
from machinery.client.config import ClientConfig
from machinery.client.rest import Client


def profiles_of(*given: dict[str, Any], extenders: tuple[dict[str, Any], ...] = ()) -> dict[str, Profile]:
    """The profiles of a configuration file with these `profiles`."""
    config = {
        "apiVersion": API_VERSION,
        "kind": file.KIND,
        "profiles": list(given),
        "extenders": list(extenders),
    }
    client = Client(ClientConfig("http://127.0.0.1:1"), user_agent="t")
    informers = Informers(client)
    nodes = NodeTable()
    devices = Devices(informers, nodes.log.forget)
    recorder = Recorder(client, "t")
    around = profiles.Surroundings(nodes, Storage(informers), Workloads(informers), devices, client, recorder)
    return profiles.build(file.read(config), around)


def profile(**given: Any) -> Profile:
    """The one profile with these fields."""
    return profiles_of({"schedulerName": DEFAULT_NAME, **given})[DEFAULT_NAME]
