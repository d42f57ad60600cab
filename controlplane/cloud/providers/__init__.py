"""The cloud providers there are, by what --cloud-provider calls them."""

from __future__ import annotations

from controlplane.cloud.contract import Provider
from controlplane.cloud.providers import navarch

PROVIDERS: dict[str, Provider] = {"navarch": navarch.make}
