from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lab.hosts.pods import components
from lab.layout import Layout


@dataclass(frozen=True)
class HomeLayout(Layout):
    """A lab whose state is in a folder of the test's."""

    home: Path = Path()

    @property
    def state(self) -> Path:
        """The state folder."""
        return self.home / self.name


def test_logs_that_vanish_meanwhile_are_passed_over(tmp_path: Path) -> None:
    layout = HomeLayout("t", tmp_path)
    logs = layout.root("cp1") / "var/log/pods"
    stays = logs / "kube-system_etcd-cp1_uid-1/etcd"
    leaves = logs / "kube-system_kube-apiserver-cp1_uid-2/kube-apiserver"
    for folder in (stays, leaves):
        folder.mkdir(parents=True)
    (stays / "0.log").touch()
    (leaves / "0.log").symlink_to("removed-since-it-was-listed")
    assert [each.name for each in components(layout, "cp1")] == ["etcd"]
