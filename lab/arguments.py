"""The command line of `navarch`: its verbs and their options, and one line for what is wrong with them."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from lab.bootstrap.configuration import CERTIFICATES_DIR
from lab.topology import PROXY_MODES

DESCRIPTION = "A complete Kubernetes in Python, and a lab to run it in on one machine."
SUITES = ("unit", "integration", "e2e", "required", "chaos", "vms", "clients", "consistency", "all")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, and exit status 2."""
        print(f"{self.prog}: error: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = _Parser(prog="navarch", description=DESCRIPTION, allow_abbrev=False)
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)
    _lab(verbs)
    _bootstrap(verbs)
    return top


def _lab(verbs: argparse._SubParsersAction[_Parser]) -> None:
    verbs.add_parser("setup", help="install what is needed, and nothing else", allow_abbrev=False)
    up = verbs.add_parser("up", help="bring up the lab", allow_abbrev=False)
    up.add_argument("--control-planes", type=int, metavar="N", help="control-plane hosts (default 3)")
    up.add_argument("--workers", type=int, metavar="N", help="worker hosts (default 2)")
    up.add_argument("--proxy-mode", choices=PROXY_MODES, help="kube-proxy's mode (default nftables)")
    up.add_argument("--api-port", type=int, default=6443, metavar="PORT", help="port on 127.0.0.1 (default 6443)")
    up.add_argument("--vms", action="store_true", help="on virtual machines, by Vagrant and Ansible")
    up.add_argument("--load-balancers", type=int, metavar="N", help="with --vms: machines with HAProxy (default 1)")
    up.add_argument("--provider", metavar="NAME", help="with --vms: uml, libvirt or virtualbox (what works here)")
    _dev(verbs)
    _vms(verbs)
    verbs.add_parser("down", help="remove the lab, whatever state it is in", allow_abbrev=False)
    verbs.add_parser("status", help="show every daemon of the lab", allow_abbrev=False)
    verbs.add_parser("kubeconfig", help="print the path of the administrator's kubeconfig", allow_abbrev=False)
    verbs.add_parser("token", help="print the administrator's bearer token", allow_abbrev=False)
    enter = verbs.add_parser("enter", help="a shell, or a command, inside a host", allow_abbrev=False)
    enter.add_argument("host", metavar="HOST")
    enter.add_argument("command", nargs=argparse.REMAINDER, metavar="CMD")
    logs = verbs.add_parser("logs", help="print the log of a component on a host", allow_abbrev=False)
    logs.add_argument("host", metavar="HOST")
    logs.add_argument("component", metavar="COMPONENT")
    logs.add_argument("-f", "--follow", action="store_true", help="go on printing what is added")
    kill = verbs.add_parser("kill", help="send a signal to a component of a host", allow_abbrev=False)
    kill.add_argument("host", metavar="HOST")
    kill.add_argument("component", metavar="COMPONENT")
    kill.add_argument("-s", "--signal", default="KILL", metavar="SIGNAL", help="KILL, STOP, CONT, … (default KILL)")
    for verb, what in (("stop", "stop components of a host, or all that runs on it"), ("start", "start them again")):
        each = verbs.add_parser(verb, help=what, allow_abbrev=False)
        each.add_argument("host", metavar="HOST")
        each.add_argument("components", nargs="*", metavar="COMPONENT")
    test = verbs.add_parser("test", help="run the test suite", allow_abbrev=False)
    test.add_argument("suite", nargs="?", choices=SUITES, default="all")


def _vms(verbs: argparse._SubParsersAction[_Parser]) -> None:
    vms = verbs.add_parser("vms", help="what Vagrant's and Ansible's files call", allow_abbrev=False)
    actions = vms.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=_Parser)
    for name, what in (
        ("inventory", "print Ansible's inventory"),
        ("release", "make a release of this checkout; print its name"),
        ("push", "put the release's images into the lab's registry"),
        ("requirements", "print the Python packages that a machine needs"),
        ("settled", "wait until this host's static pods are as their manifests say"),
    ):
        actions.add_parser(name, help=what, allow_abbrev=False)
    files = actions.add_parser("files", help="write this machine's files of a part", allow_abbrev=False)
    files.add_argument("--machines", required=True, metavar="FILE", help="machines.yaml")
    files.add_argument("--config", required=True, metavar="FILE", help="kubeadm's configuration")
    files.add_argument("parts", nargs="+", metavar="PART")
    pack = actions.add_parser("pack", help="print the files of a folder for `unpack`", allow_abbrev=False)
    pack.add_argument("--shared", action="store_true", help="those that control planes have in common")
    pack.add_argument("folder", metavar="DIR")
    pack.add_argument("names", nargs="*", metavar="NAME", help="default: all files")
    unpack = actions.add_parser("unpack", help="write the files that `pack` printed", allow_abbrev=False)
    unpack.add_argument("folder", metavar="DIR")


def _dev(verbs: argparse._SubParsersAction[_Parser]) -> None:
    dev = verbs.add_parser(
        "dev",
        help="a cluster without nodes in one process: for those who write operators; needs neither root nor etcd",
        allow_abbrev=False,
    )
    dev.add_argument("--store", choices=("sqlite", "memory"), default="sqlite", help="where objects are (sqlite)")
    dev.add_argument("--port", type=int, default=6443, help="port on 127.0.0.1, 0 for a free one (6443)")
    dev.add_argument("--data-dir", metavar="DIR", help="certificates, kubeconfig, store (~/.local/state/navarch/dev)")
    dev.add_argument("--hollow-nodes", type=int, default=0, metavar="N", help="nodes whose pods only pretend to run")
    dev.add_argument("-v", type=int, default=0, metavar="LEVEL", help="2: show what the components log; 4: all of it")


def _bootstrap(verbs: argparse._SubParsersAction[_Parser]) -> None:
    init = verbs.add_parser("init", help="make this machine the first control-plane host", allow_abbrev=False)
    join = verbs.add_parser("join", help="make this machine another host of a cluster", allow_abbrev=False)
    join.add_argument("--control-plane", action="store_true", help="as a control-plane host, not a worker")
    join.add_argument(
        "--certificates-from",
        metavar="DIR",
        help=f"a copy of the first host's {CERTIFICATES_DIR}; without it, the shared files must be in place",
    )
    certs = verbs.add_parser("certs", help="check or renew this machine's certificates", allow_abbrev=False)
    certs.add_argument("action", choices=("check", "check-expiration", "renew"))
    certs.add_argument(
        "--within", metavar="TIME", help="check: what is soon (720h); renew: only those that expire in it"
    )
    etcd = verbs.add_parser("etcd", help="look after etcd on one of its hosts", allow_abbrev=False)
    actions = ("status", "snapshot", "restore", "join", "defragment", "compact", "disarm")
    etcd.add_argument("action", choices=actions)
    etcd.add_argument("file", nargs="?", metavar="FILE", help="snapshot: where to; restore: from which")
    etcd.add_argument("--keep", type=int, default=0, metavar="N", help="snapshot: remove all but the latest N")
    etcd.add_argument("--endpoints", metavar="URLS", help="members to ask, if not those of this host's manifest")
    for each in (certs, etcd):
        each.add_argument("--host", metavar="HOST", help="a host of the lab instead of this machine")
    addons = verbs.add_parser(
        "addons", help="put roles, configuration, kube-proxy, network and DNS into a new cluster", allow_abbrev=False
    )
    mark = verbs.add_parser("mark-control-plane", help="label and taint Nodes as control planes", allow_abbrev=False)
    mark.add_argument("nodes", nargs="*", metavar="NODE", help="default: this host's")
    for each in (addons, mark):
        each.add_argument("--kubeconfig", metavar="FILE", help="default: the one that init or join has written")
        each.add_argument("--timeout", type=float, default=240.0, metavar="SECONDS", help="how long to wait (240)")
    images = verbs.add_parser("images", help="the images that hosts need", allow_abbrev=False)
    images.add_argument("action", choices=("list", "pull", "save"))
    images.add_argument("file", nargs="?", metavar="FILE", help="save: the archive to write, for ctr images import")
    for each in (init, join, certs, etcd, addons, mark, images):
        each.add_argument("--config", metavar="FILE", help="kubeadm's configuration (ClusterConfiguration, …)")
    for each in (init, join, addons, mark):
        each.add_argument("--node-name", metavar="NAME", help="this host's name as a Node (default: its hostname)")
        each.add_argument("--apiserver-advertise-address", metavar="ADDRESS", help="this host's address")
    for each in (init, join, certs, etcd, addons, mark):
        each.add_argument("--root", default="/", metavar="DIR", help="where the host's file system is (default /)")
