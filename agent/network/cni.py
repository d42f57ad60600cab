"""The CNI configuration that the container runtime reads: a bridge, addresses from this node's range, host ports.

Source: CNI specification 1.0.0; the bridge, host-local and portmap plugins' documentation.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

import orjson

from agent.network.model import Bridge

FILE_NAME = "10-navarch.conflist"
BRIDGE_NAME = "cni0"
_EVERYWHERE = {4: "0.0.0.0/0", 6: "::/0"}


def render(bridge: Bridge) -> bytes:
    """The file's content."""
    families = sorted({6 if ":" in r else 4 for r in bridge.ranges})
    configuration: dict[str, Any] = {
        "cniVersion": "1.0.0",
        "name": "navarch",
        "plugins": [
            {
                "type": "bridge",
                "bridge": BRIDGE_NAME,
                "isGateway": True,
                "forceAddress": True,  # the node may have got another range since the bridge was made
                "hairpinMode": True,  # a pod may reach itself through a Service
                "ipMasq": False,  # masquerade.py does that, and not between pods
                "mtu": bridge.mtu,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": r}] for r in bridge.ranges],
                    "routes": [{"dst": _EVERYWHERE[family]} for family in families],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
        ],
    }
    return orjson.dumps(configuration, option=orjson.OPT_INDENT_2) + b"\n"


def write(folder: Path, content: bytes) -> bool:
    """Put the file in place in one step, readable for all; False if it was already so. Raises OSError."""
    target = folder / FILE_NAME
    with contextlib.suppress(FileNotFoundError):
        if target.read_bytes() == content and target.stat().st_mode & 0o777 == 0o644:
            return False
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".navarch-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    return True


def remove(folder: Path) -> None:
    """Take the file away, if it is there."""
    (folder / FILE_NAME).unlink(missing_ok=True)
