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

from lab.images.python import navarch_image

OPTIONAL = ("_distutils_hack", "bcrypt")  # what is imported where it happens to be installed


async def test_the_image_holds_what_the_dns_server_needs_and_is_made_once(tmp_path: Path) -> None:
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
    assert entrypoint[-2:] == ["-m", "agent.dns"]
    assert entrypoint[0][1:] in names
    assert {"opt/navarch/agent/dns/__main__.py", "lib64", "tmp"} <= names.keys()
    assert any(name.endswith("/dist-packages/dnslib/__init__.py") for name in names)
    assert any(name.endswith("/libc.so.6") for name in names)
    assert not any("/test/" in name or name.endswith(".pyx") for name in names)
    for module in _imported_packages():
        assert any(f"/dist-packages/{module}" in name for name in names), module
    [compiled] = [n for n in names if n.startswith("opt/navarch/agent/dns/__pycache__/zone.")]
    assert names[compiled][:8] == importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little")
    assert sum(len(blob.data) for blob in made.blobs) < 50 << 20


def _imported_packages() -> list[str]:
    """The installed modules that the DNS server imports, as paths below site-packages."""
    script = (
        "import sys, sysconfig, agent.dns.__main__\n"
        "home = sysconfig.get_path('purelib') + '/'\n"
        "files = (getattr(module, '__file__', None) or '' for module in list(sys.modules.values()))\n"
        "print('\\n'.join(f.removeprefix(home) for f in files if f.startswith(home)))\n"
    )
    listed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return [line for line in listed.stdout.splitlines() if not line.startswith(OPTIONAL)]
