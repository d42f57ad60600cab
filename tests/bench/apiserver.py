"""The API server's cost a request, next to what it may cost: `python tests/bench/apiserver.py --apibench PATH`.

It starts etcd and one API server with TLS, RBAC and admission on loopback, measures the time from the start to ready,
lets apibench.py (which measures any API server; needs `wrk`) do the rest, and prints a table. Nothing stays behind.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import ssl
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from machinery import pki
from machinery.testing.etcd import free_ports, running_etcd
from machinery.testing.speed import loop_milliseconds

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "benchmark-token"
START_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Target:
    """At most this much, of the unit told."""

    measure: str
    field: str
    most: float
    unit: str
    title: str


TARGETS = (
    Target("ready", "seconds", 1.0, "s", "start to ready"),
    Target("get", "apiserver_us_per_request", 130, "µs", "GET a pod, most recent"),
    Target("get0", "apiserver_us_per_request", 110, "µs", "GET a pod, resourceVersion=0"),
    Target("list", "apiserver_us_per_request", 4000, "µs", "LIST 1,000 pods"),
    Target("list_limit", "apiserver_us_per_request", 1000, "µs", "LIST limit=100"),
    Target("list_selector", "apiserver_us_per_request", 2000, "µs", "LIST by label, 100 of 1,000"),
    Target("create", "apiserver_us_per_request", 1100, "µs", "POST a pod"),
    Target("patch", "apiserver_us_per_request", 1200, "µs", "merge PATCH a pod"),
    Target("watch", "apiserver_us_per_event", 22, "µs", "watch event, 100 watchers"),
    Target("rss", "mib", 150, "MiB", "memory (PSS), 1,000 pods"),
)


def write_credentials(folder: Path) -> list[str]:
    """Certificates, keys and a token in a folder; the flags that name them."""
    authority = pki.make_authority("kubernetes")
    server = pki.issue(
        authority, "kube-apiserver", usages=pki.SERVER_USAGES, names=("127.0.0.1", "localhost"), algorithm="RSA-2048"
    )
    signing = pki.issue(authority, "service-accounts", usages=pki.SERVER_USAGES, algorithm="RSA-2048")
    files = {
        "ca.crt": authority.certificate_pem,
        "server.crt": server.certificate_pem,
        "server.key": server.key_pem,
        "sa.key": signing.key_pem,
        "tokens.csv": f"{TOKEN},admin,admin,system:masters\n".encode(),
    }
    for name, data in files.items():
        path = folder / name
        path.touch(mode=0o600)
        path.write_bytes(data)
    return [
        f"--client-ca-file={folder}/ca.crt",
        f"--tls-cert-file={folder}/server.crt",
        f"--tls-private-key-file={folder}/server.key",
        f"--service-account-signing-key-file={folder}/sa.key",
        f"--service-account-key-file={folder}/sa.key",
        f"--token-auth-file={folder}/tokens.csv",
    ]


@asynccontextmanager
async def running_process(port: int, etcd: str, folder: Path, more: Sequence[str]) -> AsyncIterator[int]:
    """The API server as a process of its own; its id."""
    flags = [
        *("--bind-address=127.0.0.1", f"--secure-port={port}", f"--etcd-servers={etcd}"),
        *("--authorization-mode=Node,RBAC", "--service-cluster-ip-range=10.96.0.0/16"),
        "--service-account-issuer=https://kubernetes.default.svc",
        *more,
    ]
    log = folder / "apiserver.log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "controlplane.apiserver", *flags, cwd=ROOT, stdout=out, stderr=out
        )
    try:
        yield process.pid
        if process.returncode is not None:
            raise SystemExit(f"the API server ended: {log.read_text()}")
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def wait_ready(url: str) -> None:
    """Return when the server says it is ready."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"{url}/readyz", ssl=context) as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.02)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(apibench: Path, url: str, pid: int, arguments: Sequence[str]) -> AsyncIterator[dict[str, Any]]:
    """What apibench.py tells, line by line."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(apibench), "--server", url, "--token", TOKEN, "--pid", str(pid), *arguments),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async for line in process.stdout:
        yield json.loads(line)
    if await process.wait():
        raise SystemExit(f"{apibench} failed with status {process.returncode}")


def row(target: Target, found: float) -> str:
    """A line of the table."""
    mark = "" if found <= target.most else f"  over by {found / target.most - 1:.0%}"
    return f"{target.title:32} {found:9.1f} {target.most:9g} {target.unit}{mark}"


async def run(options: argparse.Namespace) -> None:
    """Start everything, measure, print."""
    before = loop_milliseconds()
    with tempfile.TemporaryDirectory(prefix="navarch-bench-") as name:
        folder = Path(name)
        async with running_etcd() as members:
            port = free_ports(1)[0]
            url = f"https://127.0.0.1:{port}"
            more = [*write_credentials(folder), *options.flag]
            begun = time.monotonic()
            async with running_process(port, members[0].url, folder, more) as pid:
                await wait_ready(url)
                seconds, cpu = time.monotonic() - begun, cpu_seconds(pid)
                print(f"ready after {seconds:.2f} s, {cpu:.2f} s of CPU; process {pid}", file=sys.stderr, flush=True)
                found: dict[str, dict[str, Any]] = {"ready": {"seconds": seconds}}
                arguments = ["--seconds", str(options.seconds), *(["--only", options.only] if options.only else [])]
                async for one in measure(options.apibench, url, pid, arguments):
                    print(json.dumps(one), file=sys.stderr, flush=True)
                    found[one["measure"]] = one
    print(
        f"a loop of Python took {before:.1f} ms before and {loop_milliseconds():.1f} ms after: compare like with like"
    )
    print(f"{'':32} {'measured':>9} {'at most':>9}")
    for target in TARGETS:
        if target.measure in found:
            print(row(target, float(found[target.measure][target.field])))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--apibench", type=Path, required=True)
    parser.add_argument("--seconds", type=int, default=6, help="length of each measure")
    parser.add_argument("--only", default="", help="measures, separated by commas")
    parser.add_argument("--flag", action="append", default=[], help="a further flag for the API server; may come again")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
