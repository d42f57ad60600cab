"""Images: reproducible, whole, and made of what they say."""

from __future__ import annotations

import gzip
import io
import json
import tarfile

from lab.images import catalogue
from lab.images.layer import Entry, Settings, digest, image, layer


def names_in(blob: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob))) as tar:
        return {member.name: member for member in tar.getmembers()}


def test_the_same_files_give_the_same_layer_in_whatever_order() -> None:
    entries = [Entry("bin/a", content=b"1"), Entry("etc/b", 0o644, b"2"), Entry("bin/sh", target="a")]
    assert layer(entries) == layer(list(reversed(entries)))
    assert layer(entries).diff_id == digest(gzip.decompress(layer(entries).blob.data))


def test_folders_on_the_way_are_there_before_what_is_in_them() -> None:
    members = list(names_in(layer([Entry("www/cgi-bin/index.cgi", content=b"x")]).blob.data))
    assert members == ["www", "www/cgi-bin", "www/cgi-bin/index.cgi"]


def test_entries_keep_mode_target_and_owner() -> None:
    found = names_in(layer([Entry("tmp", 0o1777), Entry("bin/sh", target="/bin/busybox")]).blob.data)
    assert found["tmp"].mode == 0o1777
    assert (found["bin/sh"].issym(), found["bin/sh"].linkname) == (True, "/bin/busybox")
    assert {(member.uid, member.gid, member.mtime) for member in found.values()} == {(0, 0, 0)}


def test_a_manifest_names_every_blob_by_digest_and_size() -> None:
    one, two = layer([Entry("a", content=b"1")]), layer([Entry("b", content=b"2")])
    made = image(["x:1"], [one, two], Settings(command=["a"], ports=["80/tcp"]))
    manifest = json.loads(made.manifest.data)
    blobs = {blob.digest: blob.data for blob in made.blobs}
    for described in (manifest["config"], *manifest["layers"]):
        assert digest(blobs[described["digest"]]) == described["digest"]
        assert len(blobs[described["digest"]]) == described["size"]
    config = json.loads(blobs[manifest["config"]["digest"]])
    assert config["rootfs"]["diff_ids"] == [one.diff_id, two.diff_id]
    assert config["config"]["Cmd"] == ["a"]
    assert config["config"]["ExposedPorts"] == {"80/tcp": {}}


def test_the_catalogue_shares_the_userland_between_busybox_and_echo() -> None:
    userland = catalogue.busybox_layer(b"elf", ["bin/ls", "bin/busybox", "usr/bin/env"])
    members = names_in(userland.blob.data)
    assert members["bin/ls"].linkname == "/bin/busybox"
    assert members["bin/busybox"].isfile()
    init = layer([Entry("sbin/catatonit", content=b"elf")])
    busybox, echo = catalogue.busybox_image(userland), catalogue.echo_image(userland, init)
    assert busybox.blobs[1] == echo.blobs[1]
    assert "library/busybox:latest" in busybox.names
