"""Real etcd, registry, containerd and HAProxy in real hosts, under the supervisor."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from lab.bootstrap.rooted import inside
from lab.conditions import until_async
from lab.daemons import haproxy, plan
from lab.errors import LabError, NotRunning
from lab.hosts import sockets
from lab.hosts.namespaces import MACHINE
from lab.images import catalogue
from lab.images.push import push
from lab.readiness import Endpoint, answers
from lab.supervisor.control import Supervisor
from lab.supervisor.daemon import Daemon, Report, State
from lab.supervisor.runner import tail
from lab.topology import REGISTRY_PORT

if TYPE_CHECKING:
    from partial_lab import BuiltLab

pytest_plugins = ["partial_lab"]

ETCD = Endpoint("cp1", "http://127.0.0.1:2381/health")


async def report_of(built: BuiltLab, key: str) -> Report:
    return next(report for report in await built.supervisor.reports() if report.key == key)


async def test_a_killed_daemon_comes_back_and_a_stopped_one_stays_away(built: BuiltLab) -> None:
    await built.supervisor.start([built.etcd()])
    await built.watch.endpoints([("cp1/etcd", ETCD)], 30)
    first = await report_of(built, "cp1/etcd")
    assert built.layout.pid_file("cp1", "etcd").read_text() == f"{first.pid}\n"
    os.kill(first.pid, signal.SIGKILL)

    async def back() -> bool:
        now = await report_of(built, "cp1/etcd")
        return now.state is State.RUNNING and now.pid != first.pid

    await until_async(back, 10)
    assert (await report_of(built, "cp1/etcd")).ended == "killed by signal 9"
    await built.watch.endpoints([("cp1/etcd", ETCD)], 30)

    await built.supervisor.stop(["cp1/etcd"])
    stopped = await report_of(built, "cp1/etcd")
    assert (stopped.state, stopped.pid) == (State.STOPPED, 0)
    assert "received terminated signal" in "\n".join(tail(built.layout.log("cp1", "etcd")))
    assert not built.layout.pid_file("cp1", "etcd").exists()
    await built.supervisor.start_again(["cp1/etcd"])
    await built.watch.endpoints([("cp1/etcd", ETCD)], 30)


async def test_a_job_runs_again_and_again_and_is_scheduled_between(built: BuiltLab) -> None:
    runs = built.layout.state / "runs"
    await built.supervisor.start([Daemon("cp1", "job", ("sh", "-c", f"echo >> {runs}"), every_seconds=0.2)])

    async def twice() -> bool:
        return runs.exists() and len(runs.read_text()) >= 2

    await until_async(twice, 20)
    report = await report_of(built, "cp1/job")
    assert report.restarts == 0
    assert report.state in (State.SCHEDULED, State.RUNNING)
    await built.supervisor.stop(["cp1/job"])
    assert (await report_of(built, "cp1/job")).state is State.STOPPED


async def test_a_daemon_that_is_to_run_otherwise_is_started_anew(built: BuiltLab) -> None:
    daemon = Daemon("cp1", "sleeper", ("sleep", "600"))
    await built.supervisor.start([daemon])

    async def running() -> bool:
        return (await report_of(built, "cp1/sleeper")).pid != 0

    await until_async(running, 10)
    first = (await report_of(built, "cp1/sleeper")).pid
    await built.supervisor.start([daemon])
    assert (await report_of(built, "cp1/sleeper")).pid == first
    await built.supervisor.start([replace(daemon, environment={"CODE": "new"})])
    await until_async(running, 10)
    assert (await report_of(built, "cp1/sleeper")).pid != first


async def test_etcd_talks_to_its_own_cas_clients_alone(built: BuiltLab) -> None:
    await built.supervisor.start([built.etcd()])
    await built.watch.endpoints([("cp1/etcd", ETCD)], 30)
    pki = inside(built.layout.root("cp1"), "/etc/kubernetes/pki")

    def context(certificate: str) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=str(pki / "etcd/ca.crt"))
        made.load_cert_chain(pki / f"{certificate}.crt", pki / f"{certificate}.key")
        return made

    url = "https://10.77.0.11:2379/health"
    assert await answers(built.layout, Endpoint("lb", url, context("apiserver-etcd-client"))) == ""
    assert await answers(built.layout, Endpoint("lb", url, context("apiserver-kubelet-client"))) != ""
    assert await answers(built.layout, Endpoint("lb", url.replace("https", "http"))) != ""


async def test_a_daemon_that_keeps_ending_is_told_with_its_last_words(built: BuiltLab) -> None:
    broken = Daemon("cp1", "broken", ("sh", "-c", "echo 'no such flag: --colour' >&2; exit 3"))
    await built.supervisor.start([broken])
    with pytest.raises(LabError, match=r"(?s)broken on cp1 keeps ending \(exit status 3, .*no such flag: --colour"):
        await built.watch.endpoints([("cp1/broken", Endpoint("cp1", "http://127.0.0.1:1/"))], 60)


async def test_a_daemon_that_cannot_be_started_is_told(built: BuiltLab) -> None:
    await built.supervisor.start([Daemon("cp1", "missing", ("/no/such/program",))])
    with pytest.raises(LabError, match=r"(?s)missing on cp1 keeps ending .*/no/such/program: No such file"):
        await built.watch.endpoints([("cp1/missing", Endpoint("cp1", "http://127.0.0.1:1/"))], 60)


async def test_what_a_daemon_leaves_ends_with_it(built: BuiltLab) -> None:
    pid_file = built.layout.state / "child"
    script = f"sleep 600 & echo $! > {pid_file}; exec sleep 600"
    await built.supervisor.start([Daemon("cp1", "parent", ("sh", "-c", script))])

    async def written() -> bool:
        return pid_file.exists() and bool(pid_file.read_text())

    await until_async(written, 10)
    child = Path("/proc") / pid_file.read_text().strip()
    assert child.exists()
    await built.supervisor.stop(["cp1/parent"])
    assert not (child / "cmdline").exists() or (child / "cmdline").read_bytes() == b""


async def test_asking_for_an_unknown_daemon_or_without_a_lab(built: BuiltLab) -> None:
    with pytest.raises(LabError, match="no daemon cp1/kubelet"):
        await built.supervisor.stop(["cp1/kubelet"])
    await built.supervisor.shut_down()
    with pytest.raises(NotRunning, match="run `navarch up`"):
        await Supervisor(built.layout).reports()


async def test_images_are_pushed_pulled_and_run(built: BuiltLab) -> None:
    await built.supervisor.start(built.daemons("registry", "containerd"))
    url = f"http://{built.topology.load_balancer.address}:{REGISTRY_PORT}"
    await built.watch.endpoints([("lb/registry", Endpoint("lb", f"{url}/v2/"))], 30)
    images = await catalogue.build()
    factory = sockets.factory(built.layout.namespace("lb", "net"))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(socket_factory=factory)) as session:
        await push(session, url, images)
        await push(session, url, images)  # again: nothing is in the way
        async with session.get(f"{url}/v2/_catalog") as response:
            assert await response.json() == {"repositories": ["busybox", "echo", "library/busybox", "pause"]}

    async def runs() -> bool:
        return (await built.inside("w1", "ctr", "version")).returncode == 0

    await until_async(runs, 30)
    name = "docker.io/library/busybox:latest"  # any registry's name leads to the lab's
    pulled = await built.inside("w1", "ctr", "images", "pull", "--hosts-dir", "/etc/containerd/certs.d", name)
    assert pulled.returncode == 0, pulled.stderr
    script = "echo hello from $(hostname)"
    ran = await built.inside("w1", "ctr", "run", "--rm", "--net-host", name, "one", "sh", "-c", script)
    assert ran.text.startswith("hello from "), ran.stderr


async def test_haproxy_passes_by_an_api_server_that_is_not_ready(built: BuiltLab) -> None:
    """A stand-in answers /readyz on cp1 with the API server's certificate; HAProxy believes that alone.

    There is a second server, which is down: an only one would never be taken out.
    """
    hosts, binds = built.topology.hosts, [f"127.0.0.1:{built.topology.api_port} namespace {MACHINE}", "10.77.0.10:6443"]
    servers = [host for host in hosts if host.name in ("cp1", "w1")]
    inside(built.layout.root("lb"), haproxy.CONFIG).write_text(haproxy.configuration(binds, servers))
    pki = inside(built.layout.root("cp1"), "/etc/kubernetes/pki")
    state = built.layout.state / "ready"
    server = (
        "import http.server, pathlib, ssl\n"
        "class Handler(http.server.BaseHTTPRequestHandler):\n"
        "    protocol_version = 'HTTP/1.1'\n"
        "    def do_GET(self):\n"
        f"        self.send_response(200 if pathlib.Path({str(state)!r}).exists() else 500)\n"
        "        self.send_header('Content-Length', '0')\n"
        "        self.end_headers()\n"
        "context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n"
        "context.load_cert_chain('/etc/kubernetes/pki/apiserver.crt', '/etc/kubernetes/pki/apiserver.key')\n"
        "server = http.server.ThreadingHTTPServer(('', 6443), Handler)\n"
        "server.socket = context.wrap_socket(server.socket, server_side=True)\n"
        "server.serve_forever()\n"
    )
    stand_in = Daemon("cp1", "stand-in", ("/usr/bin/python3", "-c", server))
    state.touch()
    await built.supervisor.start([stand_in, *built.daemons("haproxy")])
    tls = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    machine = Endpoint(None, f"https://127.0.0.1:{built.topology.api_port}/readyz", tls)
    balancer = Endpoint("w1", "https://10.77.0.10:6443/readyz", tls)
    await built.watch.endpoints([("lb/haproxy", machine), ("lb/haproxy", balancer)], 30)

    state.unlink()

    async def refused() -> bool:
        said = await answers(built.layout, machine)
        return said != "" and not said.startswith("500")

    await until_async(refused, 15)
    state.touch()
    await built.watch.endpoints([("lb/haproxy", machine)], 15)


async def test_every_planned_daemons_program_is_there(built: BuiltLab) -> None:
    """What `up` starts can be found inside the host."""
    for daemon in plan.daemons(built.topology, built.config):
        found = await built.inside(daemon.host, "sh", "-c", f"command -v {daemon.argv[0]}")
        assert found.returncode == 0, daemon


async def test_concurrent_requests_to_the_supervisor_are_answered(built: BuiltLab) -> None:
    await built.supervisor.start(built.daemons("registry"))
    answered = await asyncio.gather(*(built.supervisor.reports() for _ in range(20)))
    assert {json.dumps([report.key for report in each]) for each in answered} == {'["lb/registry"]'}
