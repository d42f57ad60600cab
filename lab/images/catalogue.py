"""The images of the lab, made from files of Debian packages and a few lines of our own.

    pause      holds a pod's namespaces         catatonit (package catatonit)
    busybox    a small userland                 busybox with all its applets (package busybox-static)
    echo       answers HTTP on port 8080        busybox httpd and a CGI script

Those that hosts must have before there is a registry (the components, etcd) are in `release.py`.

Source: catatonit(1) (-P: do nothing but reap), busybox httpd --help.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agent.command import CommandError, run
from lab.bootstrap.images import PAUSE
from lab.errors import LabError
from lab.images.layer import Entry, Image, Layer, Settings, image, layer

BUSYBOX = "busybox:1.35"
ECHO = "echo:1.0"
ECHO_PORT = 8080

CATATONIT_PROGRAM = Path("/usr/bin/catatonit")
BUSYBOX_PROGRAM = Path("/bin/busybox")

_PASSWD = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
_GROUP = b"root:x:0:\nnogroup:x:65534:\n"

_ECHO_SCRIPT = """\
#!/bin/sh
# Says who answers, and whom: what is needed to see where a Service leads.
printf 'Content-Type: text/plain\\r\\n\\r\\n'
echo "hostname: $(hostname)"
client=${REMOTE_ADDR#[}
client=${client%]}
echo "client: ${client#::ffff:}"
echo "method: $REQUEST_METHOD"
[ -z "$QUERY_STRING" ] || echo "query: $QUERY_STRING"
[ -z "$MESSAGE" ] || echo "message: $MESSAGE"
[ "$REQUEST_METHOD" != POST ] || { printf 'body: '; head -c "${CONTENT_LENGTH:-0}"; echo; }
"""


async def build() -> list[Image]:
    """Every image of the lab's registry.

    Raises LabError when a program they are made of is not installed.
    """
    catatonit, busybox = program(CATATONIT_PROGRAM, "catatonit"), program(BUSYBOX_PROGRAM, "busybox-static")
    userland = busybox_layer(busybox, await _applets())
    init = layer([Entry("sbin/catatonit", content=catatonit)])
    return [pause_image(catatonit), busybox_image(userland), echo_image(userland, init)]


def pause_image(catatonit: bytes) -> Image:
    """The sandbox's image: nothing but a process that sleeps and reaps."""
    only = layer([Entry("pause", content=catatonit)])
    return image([PAUSE, "pause:latest"], [only], Settings(entrypoint=["/pause", "-P"], user="65535:65535"))


def busybox_layer(busybox: bytes, applets: Sequence[str]) -> Layer:
    """The userland; `applets` are paths without a leading slash."""
    links = [Entry(path, target="/bin/busybox") for path in applets if path != "bin/busybox"]
    return layer(
        [
            Entry("bin/busybox", content=busybox),
            *links,
            Entry("etc/passwd", 0o644, _PASSWD),
            Entry("etc/group", 0o644, _GROUP),
            Entry("root", 0o700),
            Entry("tmp", 0o1777),
            *(Entry(name) for name in ("dev", "proc", "sys", "run", "var")),
        ]
    )


def busybox_image(userland: Layer) -> Image:
    """Also under the names that people type: `kubectl run --image=busybox`."""
    names = [BUSYBOX, "busybox:latest", f"library/{BUSYBOX}", "library/busybox:latest"]
    return image(names, [userland], Settings(command=["sh"]))


def echo_image(userland: Layer, init: Layer) -> Image:
    """An HTTP server that tells its pod's name and the client's address."""
    pages = layer(
        [
            Entry("www/cgi-bin/index.cgi", 0o755, _ECHO_SCRIPT.encode()),
            Entry("www/healthz", 0o644, b"ok\n"),
        ]
    )
    # As process 1, httpd would be deaf to SIGTERM: catatonit hears it for it.
    serve = ["httpd", "-f", "-vv", "-p", str(ECHO_PORT), "-h", "/www"]
    settings = Settings(entrypoint=["/sbin/catatonit", "--"], command=serve, ports=[f"{ECHO_PORT}/tcp"])
    return image([ECHO, "echo:latest"], [userland, init, pages], settings)


def program(path: Path, package: str) -> bytes:
    """A program of a Debian package. Raises LabError naming the package when it is not there."""
    try:
        return path.read_bytes()
    except OSError as exc:
        raise LabError(f"{path}: {exc.strerror}; it comes with the Debian package {package}") from exc


async def _applets() -> list[str]:
    try:
        listed = await run(str(BUSYBOX_PROGRAM), "--list-full", check=True)
    except CommandError as exc:
        raise LabError(str(exc)) from exc
    return listed.text.split()
