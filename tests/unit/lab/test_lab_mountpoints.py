"""Folders made on the machine for labs to mount on: the last lab that goes takes them with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from lab import mountpoints
from lab.layout import Layout


@dataclass(frozen=True)
class HomeLayout(Layout):
    """A lab whose state is in a folder of the test's."""

    home: Path = Path()

    @property
    def state(self) -> Path:
        """The state folder."""
        return self.home / self.name


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("one", "two"):
        (tmp_path / "state" / name).mkdir(parents=True)
    return tmp_path / "state"


def test_the_last_lab_removes_them_and_what_is_in_use_stays(home: Path, tmp_path: Path) -> None:
    one, two = HomeLayout("one", home), HomeLayout("two", home)
    folders = [str(tmp_path / "etc" / "a"), str(tmp_path / "full"), str(home)]
    mountpoints.make(one, folders)
    mountpoints.make(two, folders)
    (tmp_path / "full" / "file").touch()
    mountpoints.remove(one)
    assert (tmp_path / "etc" / "a").is_dir()
    one.state.rmdir()
    mountpoints.remove(two)
    assert not (tmp_path / "etc").exists()
    assert (tmp_path / "full" / "file").exists()
    assert home.is_dir()
    assert not two.mount_points_file.exists()


def test_removing_twice_or_what_was_never_made_is_no_failure(tmp_path: Path) -> None:
    lab = HomeLayout("none", tmp_path / "nowhere")
    mountpoints.remove(lab)
    mountpoints.remove(lab)
