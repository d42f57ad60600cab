"""The image of the project's own components: whole, small, and made once."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

from lab.images.python import COMMANDS, navarch_image

OPTIONAL = ("_distutils_hack", "bcrypt")  # what is imported where it happens to be installed


async def test_the_image_holds_what_the_components_need_and_is_made_once(tmp_path: Path) -> None:
    made = await navarch_image(tmp_path)
    kept = list(tmp_path.iterdir())
    assert await navarch_image(tmp_path) == made
    assert set(tmp_path.iterdir()) == set(kept)
    names: dict[str, bytes] = {}
    for blob in made.blobs[1:]:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob.data))) as tar:
            for member in tar:
                content = tar.extractfile(member) if member.name.startswith("opt/") and member.isfile() else None
                names[member.name] = content.read() if content else b""
    [entrypoint] = [json.loads(made.blobs[0].data)["config"]["Entrypoint"]]
    assert entrypoint == ["/usr/local/bin/coredns"]
    assert {f"usr/local/bin/{name}" for name in COMMANDS} <= names.keys()
    assert {"opt/navarch/agent/dns/__main__.py", "lib64", "tmp", "usr/sbin/nft", "usr/sbin/iptables-restore"} <= set(
        names
    )
    assert any(name.endswith("/xtables/libxt_comment.so") for name in names)
    assert any("/libnftables.so" in name for name in names)
    assert any(name.endswith("/libc.so.6") for name in names)
    assert not any("/test/" in name or name.endswith(".pyx") for name in names)
    for module in _imported_packages():
        assert any(f"/dist-packages/{module}" in name for name in names), module
    assert not any("/kubernetes-json-schema/v1.35" in name for name in names)
    [compiled] = [n for n in names if n.startswith("opt/navarch/agent/dns/__pycache__/zone.")]
    assert names[compiled][:8] == importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little")
    assert sum(len(blob.data) for blob in made.blobs) < 90 << 20


def _imported_packages() -> set[str]:
    """The installed modules that the components import, as paths below site-packages."""
    script = (
        "import sys, sysconfig, {module}.__main__, {module}.{more}\n"
        "home = sysconfig.get_path('purelib') + '/'\n"
        "files = (getattr(module, '__file__', None) or '' for module in list(sys.modules.values()))\n"
        "print('\\n'.join(f.removeprefix(home) for f in files if f.startswith(home)))\n"
    )
    found = set()
    for module in COMMANDS.values():
        more = "assembly" if module == "controlplane.apiserver" else "__main__"
        source = script.format(module=module, more=more)
        listed = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True, timeout=60)
        found |= set(listed.stdout.split())
    return {path for path in found if not path.startswith(OPTIONAL)}
