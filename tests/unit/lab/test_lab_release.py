"""The archive that hosts import: names, tags by content, the same bytes for the same images."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

from lab.images.layer import Entry, Image, Settings, image, layer
from lab.images.release import Release, save


def made(content: bytes) -> Image:
    return image(["x"], [layer([Entry("a", content=content)])], Settings())


def test_tags_change_with_the_content_of_just_that_image() -> None:
    one = Release(made(b"1"), made(b"etcd"), made(b"pause"), "3.4.23")
    other = Release(made(b"2"), made(b"etcd"), made(b"pause"), "3.4.23")
    assert one.version.startswith("v1.36.0+")
    assert one.version != other.version
    assert one.etcd_tag == other.etcd_tag
    assert one.key != other.key
    names = [name for _, names in one.named for name in names]
    assert "registry.navarch.local:5000/kube-apiserver:v1.36.0" in names
    assert f"registry.navarch.local:5000/kube-apiserver:{one.version.replace('+', '_')}" in names
    assert "registry.navarch.local:5000/etcd:3.4.23-0" in names
    assert "registry.navarch.local:5000/pause:3.10" in names


def test_an_archive_is_an_oci_layout_and_always_the_same(tmp_path: Path) -> None:
    release = Release(made(b"1"), made(b"etcd"), made(b"pause"), "3.4.23")
    for name in ("one.tar", "two.tar"):
        save(tmp_path / name, release.named)
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as tar:
        opened = {member.name: tar.extractfile(member) for member in tar}
        files = {name: file.read() for name, file in opened.items() if file is not None}
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    manifests = json.loads(files["index.json"])["manifests"]
    assert len(manifests) == sum(len(names) for _, names in release.named)
    for each in manifests:
        blob = json.loads(files[f"blobs/sha256/{each['digest'].rpartition(':')[2]}"])
        for part in (blob["config"], *blob["layers"]):
            assert len(files[f"blobs/sha256/{part['digest'].rpartition(':')[2]}"]) == part["size"]
