"""`navarch certs check` and `renew`: the certificates of this host (in the lab: with --host, from outside)."""

from __future__ import annotations

import argparse
from datetime import timedelta
from pathlib import Path

from rich.table import Table

from lab.bootstrap import certificates, kubeconfig, phases, staticfiles
from lab.bootstrap.certificates import Expiry
from lab.bootstrap.configuration import ClusterConfiguration
from lab.bootstrap.rooted import inside
from lab.errors import LabError
from lab.progress import console
from machinery import pki
from machinery.settings import duration

_SOON = "720h"


def certs(arguments: argparse.Namespace, config: ClusterConfiguration) -> int:
    """Show when certificates expire, or make them anew; 1 when `check` finds one that expires soon. Raises LabError."""
    root = Path(arguments.root)
    try:
        within = timedelta(seconds=duration(arguments.within)) if arguments.within else None
    except ValueError as exc:
        raise LabError(f"--within {arguments.within}: {exc}") from exc
    if arguments.action == "renew":
        _renew(config, root, within)
        return 0
    return _check(_expiries(config, root), within or timedelta(seconds=duration(_SOON)))


def _expiries(config: ClusterConfiguration, root: Path) -> list[Expiry]:
    folder = inside(root, config.certificates_dir)
    files = {file: pki.read_certificates(file)[0] for file in certificates.certificate_files(folder)}
    files |= {file: kubeconfig.certificate_in(file) for file in phases.kubeconfigs(root)}
    if not files:
        raise LabError(f"no certificates in {folder}: run `navarch init` or `navarch join` first")
    return [certificates.expiry(file, certificate) for file, certificate in files.items()]


def _check(found: list[Expiry], soon: timedelta) -> int:
    table = Table(box=None, pad_edge=False)
    for column in ("CERTIFICATE", "EXPIRES", "RESIDUAL TIME", "AUTHORITY"):
        table.add_column(column, no_wrap=True)
    for each in found:
        colour = "red" if each.remaining <= soon else "default"
        residual = f"[{colour}]{_span(each.remaining)}[/{colour}]"
        table.add_row(str(each.file), f"{each.expires:%b %d, %Y %H:%M UTC}", residual, "yes" if each.authority else "")
    console.print(table)
    return 1 if any(each.remaining <= soon for each in found) else 0


def _renew(config: ClusterConfiguration, root: Path, within: timedelta | None) -> None:
    """Those that expire `within` this time (None: all); the pods that must read them are replaced by the kubelet."""
    folder = inside(root, config.certificates_dir)
    due = {each.file for each in _expiries(config, root) if within is None or each.remaining <= within}
    for file in sorted(each for each in due if each.suffix == ".crt" and certificates.is_authority(each)):
        console.print(f"[red]{file} is an authority: it is not renewed[/red]", soft_wrap=True)
    stems = certificates.renew(config, folder, lambda path: path in due)
    for stem in stems:
        console.print(f"renewed {config.certificates_dir}/{stem}.crt")
    files = phases.renew_kubeconfigs(config, root, lambda path: path in due)
    for path in files:
        console.print(f"renewed {path}")
    for name in staticfiles.refresh_certificates(config, root):
        console.print(f"{name}: its manifest says so, and the kubelet replaces it")
    if not stems and not files:
        console.print("nothing is to be renewed yet")


def _span(remaining: timedelta) -> str:
    seconds = max(remaining.total_seconds(), 0.0)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"
