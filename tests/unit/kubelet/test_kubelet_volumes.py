"""Volumes: files that change all together, paths of the host, drivers' volumes."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from kubelet_values import container, pod

from agent.kubelet.container.errors import VolumeError
from agent.kubelet.plugins.api import csi_pb2 as pb
from agent.kubelet.plugins.channel import PluginChannel
from agent.kubelet.plugins.csidrivers import CsiDriver
from agent.kubelet.pods.fieldref import PodFacts
from agent.kubelet.references import References, referred
from agent.kubelet.volumes import atomicwriter, hostpath, projection
from agent.kubelet.volumes.atomicwriter import ProjectedFile
from agent.kubelet.volumes.csi import CsiVolume, _gives_group, pod_info
from agent.kubelet.volumes.projection import Sources
from agent.kubelet.volumes.tokens import Tokens
from agent.kubelet.volumes.trustbundles import TrustBundles
from machinery.api.catalogue import CONFIGMAPS, SECRETS
from machinery.api.meta import Object


def file(text: str, mode: int = 0o644) -> ProjectedFile:
    return ProjectedFile(text.encode(), mode)


def test_files_change_all_together(tmp_path: Path) -> None:
    target = tmp_path / "v"
    target.mkdir()
    assert atomicwriter.write(str(target), {"a": file("1"), "dir/b": file("2", 0o400)})
    first = os.readlink(target / "..data")
    assert (target / "a").read_text() == "1"
    assert stat.S_IMODE((target / "dir" / "b").stat().st_mode) == 0o400
    assert not atomicwriter.write(str(target), {"a": file("1"), "dir/b": file("2", 0o400)}), "nothing has changed"
    assert atomicwriter.write(str(target), {"a": file("3")})
    assert os.readlink(target / "..data") != first
    assert sorted(p.name for p in target.iterdir() if not p.name.startswith("..")) == ["a"]
    assert (target / "a").read_text() == "3"


@pytest.mark.parametrize("path", ["", "/a", "../a", "a/../b", "..a"])
def test_files_stay_in_their_volume(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="invalid path"):
        atomicwriter.write(str(tmp_path), {path: file("x")})


def test_a_group_may_use_what_is_the_pods(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o700)
    (tmp_path / "d" / "f").write_text("x")
    (tmp_path / "d" / "f").chmod(0o600)
    atomicwriter.give_to_group(str(tmp_path), os.getgid())
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o2770
    assert stat.S_IMODE((tmp_path / "d" / "f").stat().st_mode) == 0o660


@pytest.mark.parametrize(
    ("kind", "made"),
    [("DirectoryOrCreate", Path.is_dir), ("FileOrCreate", Path.is_file)],
)
def test_paths_of_the_host_are_made(tmp_path: Path, kind: str, made: Any) -> None:
    path = tmp_path / "x"
    assert hostpath.prepare({"path": str(path), "type": kind}) == str(path)
    assert made(path)


@pytest.mark.parametrize("kind", ["Directory", "Socket", "CharDevice", "BlockDevice", "Nonsense"])
def test_paths_of_the_host_are_checked(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    path.write_text("")
    with pytest.raises(VolumeError, match=r"is not a|invalid volume type"):
        hostpath.prepare({"path": str(path), "type": kind})


async def test_downward_files_have_their_modes() -> None:
    sources = Sources(References(None, None, lambda _: None), Tokens(None), TrustBundles(None))
    items = [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}, "mode": 0o400}]
    found = await projection.files_of(pod(), {"name": "v", "downwardAPI": {"items": items}}, PodFacts("n1"), sources)
    assert found == {"n": ProjectedFile(b"p", 0o400)}
    bad = {"name": "v", "downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "spec.x"}}]}}
    with pytest.raises(VolumeError, match="unsupported fieldPath"):
        await projection.files_of(pod(), bad, PodFacts("n1"), sources)


async def test_without_api_server_bundles_and_tokens_are_refused() -> None:
    sources = Sources(References(None, None, lambda _: None), Tokens(None), TrustBundles(None))
    for source, told in (
        ({"clusterTrustBundle": {"name": "b", "path": "p"}}, "need an API server"),
        ({"serviceAccountToken": {"path": "t"}}, "has no API server"),
    ):
        volume = {"name": "v", "projected": {"sources": [source]}}
        with pytest.raises(VolumeError, match=told):
            await projection.files_of(pod(), volume, PodFacts("n1"), sources)


def test_a_token_is_for_the_one_user_of_the_pod() -> None:
    assert projection.common_user(pod(container("a"), container("b"))) is None
    own = {"securityContext": {"runAsUser": 5}}
    assert projection.common_user(pod(container("a", **own), container("b", **own))) == 5
    assert projection.common_user(pod(container("a", **own), container("b"))) is None


def test_what_a_pod_refers_to() -> None:
    wanted = pod(
        container(envFrom=[{"configMapRef": {"name": "a"}}], env=[{"valueFrom": {"secretKeyRef": {"name": "b"}}}]),
        imagePullSecrets=[{"name": "c"}],
        volumes=[{"configMap": {"name": "d"}}, {"projected": {"sources": [{"secret": {"name": "e"}}]}}],
    )
    names = {(kind.plural, name) for kind, _, name in referred(wanted)}
    assert names == {(CONFIGMAPS.plural, n) for n in "ad"} | {(SECRETS.plural, n) for n in "bce"}


# -- CSI ---------------------------------------------------------------------------------------------------------------


async def _driver(*capabilities: str) -> CsiDriver:
    return CsiDriver("d", PluginChannel("/nowhere.sock"), frozenset(capabilities))


PERSISTENT: Object = {
    "metadata": {"name": "pv"},
    "spec": {
        "accessModes": ["ReadWriteOncePod"],
        "mountOptions": ["noatime"],
        "csi": {"driver": "d", "volumeHandle": "h", "fsType": "ext4"},
    },
}


async def test_how_a_volume_is_to_be_used() -> None:
    volume = CsiVolume.of_persistent(PERSISTENT)
    mode = pb.VolumeCapability.AccessMode
    plain = volume.capability(await _driver(), 7)
    assert (plain.access_mode.mode, plain.mount.fs_type) == (mode.SINGLE_NODE_WRITER, "ext4")
    assert (list(plain.mount.mount_flags), plain.mount.volume_mount_group) == (["noatime"], "")
    able = volume.capability(await _driver("SINGLE_NODE_MULTI_WRITER", "VOLUME_MOUNT_GROUP"), 7)
    assert (able.access_mode.mode, able.mount.volume_mount_group) == (mode.SINGLE_NODE_SINGLE_WRITER, "7")
    block = CsiVolume.of_persistent({**PERSISTENT, "spec": {**PERSISTENT["spec"], "volumeMode": "Block"}})
    assert block.capability(await _driver(), None).WhichOneof("access_type") == "block"


@pytest.mark.parametrize(
    ("policy", "fs_type", "given"),
    [
        ({}, "ext4", True),
        ({}, "", False),
        ({"fsGroupPolicy": "File"}, "", True),
        ({"fsGroupPolicy": "None"}, "ext4", False),
    ],
)
async def test_who_gives_files_to_the_group(policy: Object, fs_type: str, given: bool) -> None:
    volume = CsiVolume("d", "h", "v", fs_type=fs_type)
    assert _gives_group(volume, await _driver(), policy) == given
    assert not _gives_group(volume, await _driver("VOLUME_MOUNT_GROUP"), policy)


def test_volumes_of_a_pods_own_have_handles_of_their_own() -> None:
    volume = {"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "s"}}}
    one, other = (CsiVolume.of_inline(pod(uid=uid), volume) for uid in ("a", "b"))
    assert one.handle != other.handle
    assert one.handle.startswith("csi-")
    assert one.publish_secret == {"name": "s", "namespace": "default"}
    assert pod_info(pod(), inline=True)["csi.storage.k8s.io/ephemeral"] == "true"
