"""Files on their way from one host to another."""

from __future__ import annotations

import base64
import io
import tarfile
from pathlib import Path

import pytest

from lab.errors import LabError
from lab.vms.handover import SHARED, pack, unpack


def _folder(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o600 if name.endswith("key") else 0o644)
    return root


def test_what_is_packed_is_what_is_unpacked_once(tmp_path: Path) -> None:
    source = _folder(tmp_path / "from", {name: name for name in SHARED} | {"apiserver.key": "its own"})
    packed = pack(source, SHARED)
    assert unpack(packed, tmp_path / "to") == list(SHARED)
    assert (tmp_path / "to" / "etcd" / "ca.key").read_text() == "etcd/ca.key"
    assert (tmp_path / "to" / "etcd" / "ca.key").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "to" / "apiserver.key").exists()
    assert unpack(packed, tmp_path / "to") == []


def test_what_a_kubelet_has_renewed_stays_and_the_rest_is_brought_up_to_date(tmp_path: Path) -> None:
    made = {"etc/kubernetes/kubelet.conf": "made", "var/lib/kubelet/config.yaml": "new"}
    host = _folder(tmp_path / "host", {"etc/kubernetes/kubelet.conf": "renewed", "var/lib/kubelet/config.yaml": "old"})
    assert unpack(pack(_folder(tmp_path / "from", made)), host) == ["var/lib/kubelet/config.yaml"]
    assert (host / "etc/kubernetes/kubelet.conf").read_text() == "renewed"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"ca\.crt: no such file"):
        pack(tmp_path, ["ca.crt"])


def test_nothing_is_written_outside_and_nonsense_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../evil"), io.BytesIO())
    with pytest.raises(LabError, match=r"'\.\./evil', which is no file to be put here"):
        unpack(base64.b64encode(buffer.getvalue()).decode(), tmp_path / "to")
    with pytest.raises(LabError, match="no archive of"):
        unpack("!", tmp_path / "to")
    assert not (tmp_path / "evil").exists()
