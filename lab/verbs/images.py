"""`navarch images`: the images that hosts need, and hosts that get theirs before there is a cluster to wait for.

Source: kubeadm, `config images list` and `pull`.
"""

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
    """Say which they are, have this host pull them, or write them as one archive. Raises LabError, CriError."""
    match arguments.action:
        case "list":
            for name in names.needed(config):
                print(name)
        case "pull":
            asyncio.run(_pull(config))
        case "save":
            _save(arguments)


async def _pull(config: ClusterConfiguration) -> None:
    from agent.cri.api_pb2 import ImageSpec
    from agent.cri.client import CriClient

    async with CriClient(config.node.cri_socket) as runtime:
        for name in names.needed(config):
            image = ImageSpec(image=name)
            if await runtime.image_status(image) is None:
                await runtime.pull_image(image, None, None)
                print(f"[config/images] Pulled {name}", flush=True)


def _save(arguments: argparse.Namespace) -> None:
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
