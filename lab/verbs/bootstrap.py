"""`navarch init`, `join` and `certs`: a host's own files, on any kind of host."""

from __future__ import annotations

import argparse
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from rich.table import Table

from lab.bootstrap import certificates, kubeconfig, phases
from lab.bootstrap.configuration import ClusterConfiguration
from lab.bootstrap.reading import read_configuration
from lab.bootstrap.rooted import inside
from lab.errors import LabError
from lab.progress import console
from machinery import pki

_SOON = timedelta(days=30)


def configuration(arguments: argparse.Namespace) -> ClusterConfiguration:
    """The file of --config with the other options over it. Raises SettingsError."""
    config = read_configuration(arguments.config) if arguments.config else ClusterConfiguration()
    name = getattr(arguments, "node_name", None)
    address = getattr(arguments, "apiserver_advertise_address", None)
    if name:
        config = replace(config, node=replace(config.node, name=name.lower()))
    return replace(config, advertise_address=address) if address else config


def init(arguments: argparse.Namespace) -> None:
    """Make the first control-plane host's files."""
    _tell(phases.initialise(configuration(arguments), Path(arguments.root)))


def join(arguments: argparse.Namespace) -> None:
    """Make another host's files."""
    config, root = configuration(arguments), Path(arguments.root)
    shared = Path(arguments.certificates_from) if arguments.certificates_from else None
    if arguments.control_plane:
        _tell(phases.join_control_plane(config, root, shared))
    elif shared is None:
        raise LabError("join as a worker needs --certificates-from, a folder with the cluster's ca.crt and ca.key")
    else:
        _tell(phases.join_worker(config, root, shared))


def certs(arguments: argparse.Namespace) -> None:
    """Show when certificates expire, or make them anew."""
    config, root = configuration(arguments), Path(arguments.root)
    folder = inside(root, config.certificates_dir)
    if arguments.action == "renew":
        for stem in certificates.renew(config, folder):
            console.print(f"renewed {config.certificates_dir}/{stem}.crt")
        for file in phases.renew_kubeconfigs(config, root):
            console.print(f"renewed {file}")
        console.print("restart etcd, the API server, controller manager, scheduler and kubelet to use them")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("CERTIFICATE", "EXPIRES", "RESIDUAL TIME", "AUTHORITY"):
        table.add_column(column)
    files = {file: pki.read_certificates(file)[0] for file in certificates.certificate_files(folder)}
    files |= {file: kubeconfig.certificate_in(file) for file in phases.kubeconfigs(root)}
    for each in (certificates.expiry(file, certificate) for file, certificate in files.items()):
        colour = "red" if each.remaining < _SOON else "default"
        residual = f"[{colour}]{max(each.remaining.days, 0)}d[/{colour}]"
        table.add_row(str(each.file), f"{each.expires:%b %d, %Y %H:%M UTC}", residual, "yes" if each.authority else "")
    if not table.row_count:
        raise LabError(f"no certificates in {folder}: run `navarch init` or `navarch join` first")
    console.print(table)


def _tell(written: phases.Written) -> None:
    for file in written.made:
        console.print(f"wrote {file}")
    if not written.made:
        console.print("everything is in place already")
