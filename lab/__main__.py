"""`python -m lab`: the `navarch` command, once ./navarch has set everything up."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lab.arguments import parser
from machinery.errors import NavarchError

if TYPE_CHECKING:
    from lab.layout import Layout


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status. What went wrong is told in one line on standard error."""
    arguments = parser().parse_args(argv)
    try:
        if arguments.verb == "dev":  # before anything else is loaded: it is to be ready within a second
            from lab.verbs.dev import dev

            return dev(arguments)
        return _run(arguments, argv) or 0
    except NavarchError as exc:
        print(f"navarch: error: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("navarch: interrupted; `navarch down` removes what is there", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(arguments: argparse.Namespace, argv: Sequence[str] | None) -> int | None:
    from lab.layout import Layout
    from lab.progress import console
    from lab.topology import Topology
    from lab.verbs import look
    from lab.vms import verbs as vms

    layout = Layout.from_environment()
    if vms.concerns(layout, arguments):
        return vms.carry_out(layout, arguments)
    match arguments.verb:
        case "setup":
            console.print("Everything is set up. Next: ./navarch up")
        case "up":
            from lab.verbs.up import up

            given = {name: getattr(arguments, name) for name in ("control_planes", "workers", "proxy_mode", "api_port")}
            asyncio.run(up(layout, Topology(**{name: value for name, value in given.items() if value is not None})))
        case "down":
            asyncio.run(_down(layout))
        case "status":
            return asyncio.run(look.status(layout))
        case "kubeconfig":
            print(look.kubeconfig_path(layout))
        case "token":
            print(look.token(layout))
        case "enter":
            look.enter(layout, arguments.host, arguments.command)
        case "logs":
            asyncio.run(look.logs(layout, arguments.host, arguments.component, follow=arguments.follow))
        case "stop" | "start" | "kill":
            asyncio.run(_control(layout, arguments))
        case "test":
            from lab.verbs.test import test

            return test(arguments.suite)
        case _:
            if getattr(arguments, "host", None):
                look.enter(layout, arguments.host, inside_host(sys.argv[1:] if argv is None else argv))
            return _bootstrap(arguments)
    return 0


def inside_host(argv: Sequence[str]) -> list[str]:
    """The command that does on the host what was asked with --host."""
    kept, given = [], iter(argv)
    for each in given:
        if each == "--host":
            next(given)
        elif not each.startswith("--host="):
            kept.append(each)
    return [sys.executable, "-P", "-m", "lab", *kept]


def _bootstrap(arguments: argparse.Namespace) -> int | None:
    from lab.verbs import addons, bootstrap, certs, etcd, images

    match arguments.verb:
        case "init":
            bootstrap.init(arguments)
        case "join":
            bootstrap.join(arguments)
        case "addons":
            addons.addons(arguments, bootstrap.configuration(arguments))
        case "mark-control-plane":
            addons.mark_control_plane(arguments, bootstrap.configuration(arguments))
        case "images":
            images.images(arguments, bootstrap.configuration(arguments))
        case "certs":
            return certs.certs(arguments, bootstrap.configuration(arguments))
        case "etcd":
            return etcd.etcd(arguments, bootstrap.configuration(arguments))
    return 0


async def _control(layout: Layout, arguments: argparse.Namespace) -> None:
    from lab.verbs import control

    match arguments.verb:
        case "stop":
            await control.stop(layout, arguments.host, arguments.components)
        case "start":
            await control.start(layout, arguments.host, arguments.components)
        case "kill":
            await control.kill(layout, arguments.host, arguments.component, arguments.signal)


async def _down(layout: Layout) -> None:
    from lab import access, sweep
    from lab.progress import Steps, console

    access.forget(layout)
    if not sweep.exists(layout):
        console.print("There is no lab.")
        return
    with Steps().step("lab removed"):
        await sweep.sweep(layout)


if __name__ == "__main__":
    sys.exit(main())
