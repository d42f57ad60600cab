"""The image of the project's own components: whole, small, and made once."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

from lab.images.etcd import etcd_image
from lab.images.python import COMMANDS, DEPENDENCIES, navarch_image
from lab.layout import PROJECT

OPTIONAL = ("_distutils_hack", "bcrypt")  # what is imported where it happens to be installed


async def test_an_image_is_made_once_from_the_same_files(tmp_path: Path) -> None:
    made = await etcd_image(tmp_path)
    kept = list(tmp_path.iterdir())
    assert await etcd_image(tmp_path) == made
    assert set(tmp_path.iterdir()) == set(kept)


async def test_the_image_holds_what_the_components_need() -> None:
    made = await navarch_image()
    names: dict[str, bytes] = {}
    for blob in made.blobs[1:]:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob.data))) as tar:
            for member in tar:
                content = tar.extractfile(member) if member.name.startswith("opt/") and member.isfile() else None
                names[member.name] = content.read() if content else b""
    [entrypoint] = [json.loads(made.blobs[0].data)["config"]["Entrypoint"]]
    assert entrypoint == ["/usr/local/bin/coredns"]
    assert {f"usr/local/bin/{name}" for name in COMMANDS} <= names.keys()
    assert {"opt/navarch/agent/dns/__main__.py", "lib64", "tmp"} <= names.keys()
    assert {"usr/sbin/nft", "usr/sbin/iptables-restore"} <= names.keys()
    assert any(name.endswith("/xtables/libxt_comment.so") for name in names)
    assert any("/libnftables.so" in name for name in names)
    assert any(name.endswith("/libc.so.6") for name in names)
    assert not any("/test/" in name or name.endswith(".pyx") for name in names)
    folder = f"usr/local/lib/python{sys.version_info.major}.{sys.version_info.minor}/dist-packages"
    assert {f"{folder}/{module}" for module in _imported_packages()} <= names.keys()
    assert not any("/kubernetes-json-schema/v1.35" in name for name in names)
    [compiled] = [n for n in names if n.startswith("opt/navarch/agent/dns/__pycache__/zone.")]
    assert names[compiled][:8] == importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little")
    assert sum(len(blob.data) for blob in made.blobs) < 90 << 20


def test_the_image_has_what_the_project_depends_on() -> None:
    with (PROJECT / "pyproject.toml").open("rb") as file:
        declared = tomllib.load(file)["project"]["dependencies"]
    names = {line.partition(">=")[0] for line in declared}
    assert set(DEPENDENCIES) == names - {"rich"}  # which the lab's command line alone uses


def _imported_packages() -> set[str]:
    """The installed modules that the components import, as paths below site-packages."""
    modules = [*(f"{module}.__main__" for module in COMMANDS.values()), "controlplane.apiserver.assembly"]
    script = (
        f"import sys, sysconfig, {', '.join(modules)}\n"
        "home = sysconfig.get_path('purelib') + '/'\n"
        "files = (getattr(module, '__file__', None) or '' for module in list(sys.modules.values()))\n"
        "print('\\n'.join(f.removeprefix(home) for f in files if f.startswith(home)))\n"
    )
    listed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return {line for line in listed.stdout.splitlines() if not line.startswith(OPTIONAL)}
