"""A lab that runs: the one that is up already, or one brought up for the tests and taken down after them."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from lab.layout import PROJECT, Layout
from lab.topology import Topology
from lab.verbs.look import topology_of
from lab.vms.place import Place

Done = subprocess.CompletedProcess[str]

EVERY_SECONDS = 0.2
PATIENCE_WITH_MACHINES = 3
"""How much longer virtual machines may take: each has one processor, which may be emulated."""
SHARED = "PYTEST_XDIST_WORKER" in os.environ
"""Several processes run tests on one lab at the same time."""


class CommandFailed(AssertionError):
    """A program that a test ran said no."""


@dataclass(frozen=True, slots=True)
class LiveLab:
    """The real kubectl, the real `navarch`, and the hosts."""

    layout: Layout

    @property
    def topology(self) -> Topology:
        return topology_of(self.layout)

    def kubectl(self, *argv: str, stdin: str | None = None, check: bool = True, seconds: float = 60) -> Done:
        environment = os.environ | {"KUBECONFIG": str(self.layout.kubeconfig)}
        return _run(["kubectl", *argv], stdin, check, seconds, environment)

    def get(self, *argv: str) -> Any:
        """What `kubectl get … -o json` says."""
        return json.loads(self.kubectl("get", *argv, "-o", "json").stdout)

    def navarch(self, *argv: str, check: bool = True, seconds: float = 240) -> Done:
        environment = os.environ | {"NAVARCH_LAB": self.layout.name}
        return _run([sys.executable, "-m", "lab", *argv], None, check, seconds, environment)

    def up(self) -> None:
        """Bring it up, or see to it that all its parts are ready, whatever its shape."""
        options: list[str] = []
        if self.layout.topology_file.exists():
            shape = self.topology
            options += ["--control-planes", str(shape.control_planes), "--workers", str(shape.workers)]
            options += ["--proxy-mode", shape.proxy_mode, "--api-port", str(shape.api_port)]
        self.navarch("up", *options)

    def inside(self, host: str, *argv: str, check: bool = True) -> Done:
        return self.navarch("enter", host, *argv, check=check)

    def fetch(self, host: str, url: str) -> str:
        """What a web server says to a host of the lab; "" if it does not answer within three seconds."""
        return self.inside(host, "timeout", "3", "busybox", "wget", "-q", "-O", "-", url, check=False).stdout


def _run(argv: list[str], stdin: str | None, check: bool, seconds: float, environment: dict[str, str]) -> Done:
    done = subprocess.run(
        argv,
        input=stdin,
        stdin=None if stdin is not None else subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
        cwd=PROJECT,
        env=environment,
    )
    if check and done.returncode:
        raise CommandFailed(f"{' '.join(argv)}: {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


Eventually = Callable[..., Any]


@pytest.fixture(scope="session")
def eventually() -> Eventually:
    """Call until it returns something true, and return that; the last thing it returned is told when time is up.

    A command that fails is one more thing that is not so yet: while a leader is elected, servers say so.
    """
    patience = PATIENCE_WITH_MACHINES if Place(Layout.from_environment()).exists() else 1

    def wait(ask: Callable[[], Any], seconds: float, what: str) -> Any:
        seconds *= patience
        deadline = time.monotonic() + seconds
        while not (found := asked(ask)) or isinstance(found, CommandFailed):
            assert time.monotonic() < deadline, f"not within {seconds} s: {what} (last seen: {found!r})"
            time.sleep(EVERY_SECONDS)
        return found

    def asked(ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except CommandFailed as error:
            return error

    return wait


@pytest.fixture(scope="session")
def lab() -> Iterator[LiveLab]:
    live = LiveLab(Layout.from_environment())
    running = live.layout.topology_file.exists()
    if SHARED:
        assert running, "tests that share a lab need one that is up"
    try:
        if not SHARED and not Place(live.layout).exists():  # `navarch test vms` brings up virtual machines before
            live.up()
        yield live
    finally:
        if not running:
            live.navarch("down")


@pytest.fixture
def namespace(lab: LiveLab, eventually: Eventually) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"e2e-{secrets.token_hex(3)}"
    made = json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    eventually(lambda: lab.kubectl("apply", "-f", "-", stdin=made), 30, "a namespace of the test's own")
    try:
        yield name
    finally:
        lab.kubectl("delete", "namespace", name, "--wait=false", check=False)
