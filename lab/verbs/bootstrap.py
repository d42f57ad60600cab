"""`navarch init` and `join`: a host's own files, on any kind of host."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from lab.bootstrap import phases
from lab.bootstrap.configuration import ClusterConfiguration
from lab.bootstrap.reading import read_configuration
from lab.errors import LabError
from lab.progress import console


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


def _tell(written: phases.Written) -> None:
    for file in written.made:
        console.print(f"wrote {file}")
    if not written.made:
        console.print("everything is in place already")
