"""exec, attach, cp, port-forward and logs of real containers, by a kubectl that speaks SPDY and one of WebSocket."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pty
import random
import re
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lab_images import BUSYBOX

from lab.verbs import clients

if TYPE_CHECKING:
    from live_lab import Eventually, LiveLab

pytest_plugins = ["live_lab"]

SERVE = "httpd -p 8080 -h /www; cat; echo the input has ended; sleep 3600"
MEGABYTES = 32


@dataclass(frozen=True)
class Streamer:
    """One kubectl, and a pod that serves /www on port 8080 and then reads its own input."""

    program: str
    environment: dict[str, str]
    namespace: str

    def start(self, *argv: str, streams: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [self.program, "-n", self.namespace, *argv],
            env=self.environment,
            stdin=streams,
            stdout=streams,
            stderr=streams,
        )

    def __call__(self, *argv: str, stdin: bytes = b"", status: int = 0, seconds: float = 60) -> bytes:
        """Run it; its output. The exit status must be `status`."""
        with self.start(*argv) as running:
            out, told = running.communicate(stdin, timeout=seconds)
        assert running.returncode == status, (argv, running.returncode, out[:1000], told)
        return out + told


@pytest.fixture(scope="module", params=["oldest", "new"])
def streamer(request: pytest.FixtureRequest, lab: LiveLab) -> Iterator[Streamer]:
    clients.prepare_kubectl("oldest", "new")
    name = f"streams-{request.param}"
    lab.kubectl("create", "namespace", name)
    container = {"name": "c", "image": BUSYBOX, "command": ["sh", "-c", f"mkdir /www; {SERVE}"], "stdin": True}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "s", "namespace": name},
        "spec": {"nodeName": "w1", "terminationGracePeriodSeconds": 1, "containers": [container]},
    }
    try:
        lab.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
        lab.kubectl("wait", "-n", name, "pod/s", "--for=condition=Ready", "--timeout=60s", seconds=70)
        program = clients.FOLDER / "tools" / request.param / "kubectl"
        yield Streamer(str(program), os.environ | {"KUBECONFIG": str(lab.layout.kubeconfig)}, name)
    finally:
        lab.kubectl("delete", "namespace", name, "--wait=false", check=False)


def test_output_errors_and_exit_status(streamer: Streamer) -> None:
    with streamer.start("exec", "s", "--", "sh", "-c", "echo out; echo err >&2; exit 7") as running:
        out, told = running.communicate(timeout=60)
    assert (out, running.returncode) == (b"out\n", 7)
    assert told.splitlines() == [b"err", b"command terminated with exit code 7"]
    assert b"executable file not found" in streamer("exec", "s", "--", "nothing", status=1)
    assert b"container nope is not valid for pod s" in streamer("exec", "s", "-c", "nope", "--", "ls", status=1)
    assert b'pods "none" not found' in streamer("exec", "none", "--", "ls", status=1)


def test_many_bytes_both_ways(streamer: Streamer) -> None:
    data = random.Random(1).randbytes(MEGABYTES << 20)
    assert streamer("exec", "-i", "s", "--", "wc", "-c", stdin=data) == b"%d\n" % len(data)
    back = streamer("exec", "-i", "s", "--", "cat", stdin=data)
    assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()


def test_copying_files(streamer: Streamer, tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(random.Random(2).randbytes(8 << 20))
    streamer("cp", str(tmp_path / "there"), "s:/www/file")
    streamer("cp", "s:/www/file", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == (tmp_path / "there").read_bytes()


@contextmanager
def forwarding(streamer: Streamer, *ports: str) -> Iterator[list[int]]:
    """The local ports of a port-forward that runs."""
    found: list[int] = []
    with streamer.start("port-forward", "--address", "127.0.0.1", "pod/s", *ports) as running:
        try:
            assert running.stdout is not None
            while len(found) < len(ports):
                line = running.stdout.readline().decode()
                assert line, running.stderr and running.stderr.read()
                found += [int(port) for port in re.findall(r"127\.0\.0\.1:(\d+) ->", line)]
            yield found
        finally:
            running.kill()


def fetch(port: int, path: str) -> bytes:
    """What comes back on a connection through a forwarded port."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        with connection.makefile("rb") as answer:
            return answer.read().partition(b"\r\n\r\n")[2]


def test_forwarded_ports(streamer: Streamer) -> None:
    size = 16 << 20
    streamer("exec", "s", "--", "sh", "-c", f"head -c {size} /dev/zero > /www/zeros; echo hello > /www/index.html")
    with forwarding(streamer, ":8080") as (port,):
        assert fetch(port, "/index.html") == b"hello\n"
        assert len(fetch(port, "/zeros")) == size
        assert fetch(port, "/index.html") == b"hello\n"


def test_a_forwarded_port_that_nobody_listens_on(streamer: Streamer) -> None:
    with streamer.start("port-forward", "--address", "127.0.0.1", "pod/s", ":9") as running:
        assert running.stdout is not None
        assert running.stderr is not None
        port = int(re.findall(rb"127\.0\.0\.1:(\d+)", running.stdout.readline())[0])
        with contextlib.suppress(ConnectionResetError):  # however kubectl closes it
            assert fetch(port, "/") == b""
        assert b"connect: connection refused" in running.stderr.readline()
        running.kill()


def test_attaching(streamer: Streamer) -> None:
    """The container's own input and output: what is typed comes back, and is in its log."""
    with streamer.start("attach", "-i", "s") as running:
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.write(b"typed\n")
        running.stdin.flush()
        assert b"typed" in running.stdout.readline()
        running.kill()
    assert b"typed\n" in streamer("logs", "s")


def test_a_log_is_followed(streamer: Streamer) -> None:
    with streamer.start("logs", "-f", "--tail=0", "s") as following, streamer.start("attach", "-i", "s") as typing:
        assert following.stdout is not None
        assert typing.stdin is not None
        os.set_blocking(following.stdout.fileno(), False)
        deadline, seen = time.monotonic() + 30, b""
        while b"again" not in seen:
            assert time.monotonic() < deadline, "what was typed is not in the log"
            typing.stdin.write(b"again\n")
            typing.stdin.flush()
            time.sleep(0.1)
            seen += following.stdout.read() or b""
        typing.kill()
        following.kill()


def test_a_terminal_and_its_size(streamer: Streamer, eventually: Eventually) -> None:
    ours, theirs = pty.openpty()

    def size(rows: int, columns: int) -> None:
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    seen = bytearray()
    os.set_blocking(ours, False)

    def shows(text: bytes, asking: bytes = b"") -> Callable[[], bool]:
        def look() -> bool:
            try:
                os.write(ours, asking)
                seen.extend(os.read(ours, 65536))
            except BlockingIOError:
                pass
            return text in seen

        return look

    size(33, 101)
    with streamer.start("exec", "-it", "s", "--", "sh", streams=theirs) as running:
        eventually(shows(b"33 101", b"stty size\n"), 30, "the terminal's size")
        size(44, 122)
        running.send_signal(signal.SIGWINCH)
        eventually(shows(b"44 122", b"stty size\n"), 30, "its new size")
        os.write(ours, b"exit 5\n")
        eventually(lambda: running.poll() is not None or shows(b"never")(), 30, "the shell's end")
        assert running.returncode == 5
    os.close(ours)
    os.close(theirs)


def test_a_client_that_dies_takes_its_command_along(streamer: Streamer, eventually: Eventually) -> None:
    with streamer.start("exec", "-i", "s", "--", "sh", "-c", "echo begun; cat; touch /tmp/ended") as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"begun\n"
        running.kill()
    check = ("exec", "s", "--", "sh", "-c", "ls /tmp")
    eventually(lambda: b"ended" in streamer(*check), 30, "the end of the command's input")


def test_a_container_that_dies_ends_its_commands(streamer: Streamer, lab: LiveLab, eventually: Eventually) -> None:
    container = {"name": "c", "image": BUSYBOX, "command": ["sleep", "3600"]}
    spec = {"nodeName": "w1", "restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "short"}, "spec": spec}
    lab.kubectl("apply", "-n", streamer.namespace, "-f", "-", stdin=json.dumps(pod))
    lab.kubectl("wait", "-n", streamer.namespace, "pod/short", "--for=condition=Ready", "--timeout=60s", seconds=70)
    with streamer.start("exec", "short", "--", "sh", "-c", "echo begun; sleep 3600") as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"begun\n"
        lab.kubectl("delete", "pod", "short", "-n", streamer.namespace, "--grace-period=0", "--force", "--wait=false")
        _, told = running.communicate(timeout=30)
    assert (running.returncode, told) == (137, b"command terminated with exit code 137\n")
