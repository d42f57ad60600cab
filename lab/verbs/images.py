"""`navarch images`: the images that hosts need before there is a registry."""

from __future__ import annotations

import argparse
import asyncio
import shutil
from pathlib import Path

from lab.bootstrap import images as names
from lab.bootstrap.configuration import ClusterConfiguration
from lab.errors import LabError
from lab.progress import console


def images(arguments: argparse.Namespace, config: ClusterConfiguration) -> None:
    """Say which they are, or write them as one archive. Raises LabError."""
    if arguments.action == "list":
        for name in names.needed(config):
            print(name)
        return
    if not arguments.file:
        raise LabError("images save: say which file to write")
    from lab.images import release, store

    made = asyncio.run(release.release())
    target = Path(arguments.file)
    try:
        shutil.copyfile(store.archive(made), target)
    except OSError as exc:
        raise LabError(f"cannot write {target}: {exc.strerror}") from exc
    console.print(f"# {target}: ctr --namespace {store.NAMESPACE} images import {target}", soft_wrap=True)
    print(f"kubernetesVersion: {made.version}")
    print(f"etcd: {{local: {{imageTag: {made.etcd_tag}}}}}")
