"""What of Navarch itself is put on a guest: its Python packages into the box, the project as an archive.

The archive is unpacked to /opt/navarch/RELEASE, to which /opt/navarch/current leads: so a release is replaced, and
brought back, in one step.  RELEASE is a digest of the content.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from lab.images.files import contents, tree
from lab.images.layer import Layer, layer
from lab.images.python import dependency_files, distributions
from lab.layout import PROJECT

FOLDERS = ("machinery", "agent", "controlplane", "lab")
RELEASE_CHARS = 12


def dependencies() -> list[str]:
    """The distributions that the project's own code needs, as pyproject.toml has them."""
    listed = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    return [re.split(r"[\s<>=!~\[(;]", each, maxsplit=1)[0] for each in listed]


def dependency_versions() -> list[str]:
    """NAME==VERSION of each, and of all that they need: as pip takes them."""
    return [f"{found.metadata['Name']}=={found.version}" for found in distributions(dependencies())]


def dependency_layer() -> Layer:
    """Their files, below /usr/local/lib."""
    return layer(contents(dependency_files(dependencies())), level=1)


def archive(folder: Path) -> tuple[str, Path]:
    """The release's name, and its archive in `folder`: made of the checkout, the same for the same files."""
    files = [file for name in FOLDERS for file in tree(PROJECT / name, name)]
    made = layer(contents(files), level=6)
    release = made.diff_id.removeprefix("sha256:")[:RELEASE_CHARS]
    target = folder / f"navarch-{release}.tar.gz"
    if not target.exists():
        temporary = target.with_suffix(".new")
        temporary.write_bytes(made.blob.data)
        temporary.replace(target)
    return release, target
