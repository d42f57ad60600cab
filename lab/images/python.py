"""The image of the project's own components: Debian's Python, the locked packages they need, and the project.

    /usr/bin/python3.11, /usr/lib/…                   the interpreter, its library and the shared libraries of all
    /usr/sbin/nft, …                                  the programs that kube-proxy and the pod network run
    /usr/local/lib/python3.11/dist-packages           what the components import
    /opt/navarch                                      the project (PYTHONPATH)
    /usr/local/bin/kube-apiserver, …                  the components, by upstream's names

Each is a layer, made once and kept in the virtual environment under a digest of what it was made from.

Source: Debian Policy, Python (folders).
"""

from __future__ import annotations

import asyncio
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from lab.errors import LabError
from lab.images import files
from lab.images.files import UNUSED, UNUSED_SUFFIXES, File, contents, kept_layer, tree
from lab.images.layer import Entry, Image, Settings, image
from lab.layout import PROJECT
from machinery.api.schema_types import VERSION

NAME = "navarch"
DEPENDENCIES = (
    "aiohttp",
    "cryptography",
    "dnslib",
    "grpcio",
    "hpack",
    "httptools",
    "kubernetes-validate",
    "msgspec",
    "numpy",
    "orjson",
    "prometheus-client",
    "protobuf",
    "PyJWT",
    "PyNaCl",
    "pyroute2",
    "ryaml",
    "uvloop",
)
"""What the components import."""
FOLDERS = ("machinery", "controlplane", "agent")
COMMANDS = {
    "kube-apiserver": "controlplane.apiserver",
    "kube-controller-manager": "controlplane.controllers",
    "kube-scheduler": "controlplane.scheduler",
    "cloud-controller-manager": "controlplane.cloud",
    "kube-proxy": "agent.proxy",
    "kubelet": "agent.kubelet",
    "coredns": "agent.dns",
    "navarch-network": "agent.network",
}
"""Programs of the image, and the modules that they are."""
PROGRAMS = ("nft", "conntrack", "ipset", "xtables-nft-multi", "xtables-legacy-multi")
_TABLES = ("iptables", "ip6tables")

_VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
_LIBRARY = Path("/usr/lib") / _VERSION
_PACKAGES = Path(sysconfig.get_path("purelib"))
_HOME = "/opt/navarch"


async def navarch_image(folder: Path | None = None) -> Image:
    """The image; `folder` is where layers are kept, by default in the virtual environment. Raises LabError."""
    kept = folder or files.kept_layers()
    interpreter = [*tree(_LIBRARY, str(_LIBRARY)[1:]), File(_interpreter(), f"usr/bin/{_VERSION}")]
    packages = list(dependency_files(DEPENDENCIES))
    programs = list(_programs())
    project = [file for name in FOLDERS for file in tree(PROJECT / name, f"{_HOME}/{name}"[1:])]

    async def system() -> list[Entry]:
        own = [*interpreter, *programs]
        loading = [f.source for f in (*own, *packages) if ".so" in f.source.suffixes or f.target.startswith("usr/bin")]
        loading += [file.source for file in programs if file.source.suffix != ".so"]
        libraries = await files.shared_libraries(loading)
        return [*files.skeleton(), *_links(), *_launchers(), *contents([*own, *libraries])]

    layers = [
        await kept_layer(
            kept,
            [*interpreter, *programs, *packages, File(Path(__file__), "this"), File(Path(files.__file__), "files")],
            system,
        ),
        await kept_layer(kept, packages, lambda: asyncio.to_thread(contents, packages)),
        await kept_layer(kept, project, lambda: asyncio.to_thread(contents, project)),
    ]
    settings = Settings(
        entrypoint=["/usr/local/bin/coredns"],  # as CoreDNS' image is the server; other pods name their command
        environment={
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": _HOME,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "OPENBLAS_NUM_THREADS": "1",
        },
    )
    return image([NAME], layers, settings)


def _interpreter() -> Path:
    return Path(sys.executable).resolve()


def _programs() -> Iterator[File]:
    """The programs of Debian's packages, and what xtables loads."""
    for name in PROGRAMS:
        path = Path("/usr/sbin") / name
        if not path.exists():
            raise LabError(f"{path}: no such file; it comes with the packages of `navarch setup`")
        yield File(path, f"usr/sbin/{name}")
    for folder in Path("/usr/lib").glob("*-linux-gnu*/xtables"):
        yield from tree(folder, str(folder)[1:])


def _links() -> list[Entry]:
    """Debian's own choice, iptables over nftables, and the older programs by their names."""
    found = [Entry("usr/bin/python3", target=_VERSION)]
    for table in _TABLES:
        for suffix in ("", "-save", "-restore"):
            found.append(Entry(f"usr/sbin/{table}{suffix}", target="xtables-nft-multi"))
            found.append(Entry(f"usr/sbin/{table}-legacy{suffix}", target="xtables-legacy-multi"))
            found.append(Entry(f"usr/sbin/{table}-nft{suffix}", target="xtables-nft-multi"))
    return found


def _launchers() -> list[Entry]:
    """-P: what lies in the working directory is not imported."""
    text = "#!/usr/bin/{python} -P\nimport sys\n\nfrom {module}.__main__ import main\n\nsys.exit(main())\n"
    return [
        Entry(f"usr/local/bin/{name}", 0o755, text.format(python=_VERSION, module=module).encode())
        for name, module in COMMANDS.items()
    ]


def dependency_files(names: Iterable[str]) -> Iterator[File]:
    """The files of these distributions and of all that they need."""
    for found in distributions(names):
        for path in found.files or ():
            source = Path(str(found.locate_file(path)))
            if not source.is_relative_to(_PACKAGES) or ".." in path.parts or _of_another_release(source):
                continue
            if source.suffix not in {*UNUSED_SUFFIXES, ".pyc"} and not UNUSED & set(path.parts):
                yield File(source, f"usr/local/lib/{_VERSION}/dist-packages/{path}")


def distributions(names: Iterable[str]) -> list[Distribution]:
    """These distributions and all that they need, by name. Raises LabError for one of the project's own."""
    found: dict[str, Distribution] = {}
    wanted = list(names)
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError as exc:
            if name in DEPENDENCIES:
                raise LabError(f"the package {name} is not installed: run `navarch setup`") from exc
            continue  # for another Python or system
        for requirement in found[name].requires or ():
            words, _, condition = requirement.partition(";")
            if "extra" not in condition:
                wanted.append(re.split(r"[\s<>=!~\[(]", words.strip())[0])
    return [found[name] for name in sorted(found)]


def _of_another_release(source: Path) -> bool:
    """kubernetes-validate carries the definitions of many releases, a hundred megabytes; one is read."""
    folder = _PACKAGES / "kubernetes_validate" / "kubernetes-json-schema"
    return source.is_relative_to(folder) and not source.is_relative_to(folder / f"{VERSION}-local")
