"""The lab in its user's own kubeconfig: put in, found again, taken out."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import access
from lab.bootstrap import kubeconfig
from lab.bootstrap.configuration import ClusterConfiguration
from lab.layout import Layout
from machinery import pki

OWN = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "work", "cluster": {"server": "https://work"}}],
    "contexts": [{"name": "work", "context": {"cluster": "work", "user": "me"}}],
    "users": [{"name": "me", "user": {}}],
    "current-context": "work",
}


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A lab whose state lies in the test's own folder."""
    monkeypatch.setattr(Layout, "state", property(lambda self: tmp_path / "state"))
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'own' / 'config'}:/another")
    pair = pki.self_signed_server("admin")
    config = ClusterConfiguration(control_plane_endpoint="127.0.0.1:6443")
    kubeconfig.write(
        tmp_path / "state/kubeconfig", kubeconfig.kubeconfig(config, kubeconfig.ADMIN, pair.certificate_pem, pair)
    )
    return Layout()


def test_it_is_made_known_where_kubectl_looks_first_and_forgotten_without_trace(layout: Layout) -> None:
    path = access.own_kubeconfig()
    assert path.name == "config"
    assert access.make_known(layout) == path
    assert path.stat().st_mode & 0o777 == 0o600
    assert kubeconfig.read(path)["current-context"] == "navarch"
    access.forget(layout)
    assert not path.exists()
    access.forget(layout)


def test_what_else_is_in_the_file_stays(layout: Layout) -> None:
    path = access.own_kubeconfig()
    kubeconfig.write(path, OWN)
    access.make_known(layout)
    access.make_known(layout)
    assert [each["name"] for each in kubeconfig.read(path)["contexts"]] == ["work", "navarch"]
    access.forget(layout)
    assert kubeconfig.read(path) == OWN | {"current-context": ""}


def test_another_lab_has_another_name() -> None:
    assert access.context_name(Layout("two")) == "navarch-two"
