"""The image registry of the lab: Debian's docker-registry, plain HTTP on the lab's own network.

Source: https://distribution.github.io/distribution/about/configuration/.
"""

from __future__ import annotations

import json

CONFIG = "/etc/kubernetes/registry.yml"
STORE = "/var/lib/docker-registry"


def command() -> list[str]:
    """In the foreground."""
    return ["docker-registry", "serve", CONFIG]


def configuration(address: str, port: int) -> str:
    """The registry's file (JSON is YAML)."""
    return json.dumps(
        {
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {
                "filesystem": {"rootdirectory": STORE},
                "delete": {"enabled": True},
                "cache": {"blobdescriptor": "inmemory"},
            },
            "http": {"addr": f"{address}:{port}", "secret": "one-registry-needs-none"},
        },
        indent=1,
    )
