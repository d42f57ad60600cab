"""The image of etcd: the programs of Debian's packages and the libraries they load."""

from __future__ import annotations

import re
from pathlib import Path

from agent.command import CommandError, run
from lab.errors import LabError
from lab.images import files
from lab.images.files import File, contents, kept_layer
from lab.images.layer import Entry, Image, Settings, image

NAME = "etcd"
PROGRAMS = (Path("/usr/bin/etcd"), Path("/usr/bin/etcdctl"))


async def etcd_image(folder: Path | None = None) -> Image:
    """The image; `folder` is where its layer is kept, by default in the virtual environment. Raises LabError."""
    for path in PROGRAMS:
        if not path.exists():
            raise LabError(f"{path}: no such file; it comes with the Debian packages etcd-server and etcd-client")
    own = [File(path, str(path)[1:]) for path in PROGRAMS]

    async def entries() -> list[Entry]:
        libraries = await files.shared_libraries(PROGRAMS)
        return [*files.skeleton(), *contents([*own, *libraries])]

    only = await kept_layer(folder or files.kept_layers(), own, entries)
    return image([NAME], [only], Settings(entrypoint=["/usr/bin/etcd"]))


async def version() -> str:
    """The version of this machine's etcd: 3.4.23. Raises LabError."""
    try:
        said = await run(str(PROGRAMS[0]), "--version", check=True)
    except CommandError as exc:
        raise LabError(str(exc)) from exc
    found = re.search(r"etcd Version: (\S+)", said.text)
    if found is None:
        raise LabError(f"cannot tell the version of {PROGRAMS[0]}: {said.text[:200]!r}")
    return found[1]
