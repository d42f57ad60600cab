"""Debian's archive, from where this machine's own apt has it, without touching what that apt knows.

Source: apt.conf(5), apt-get(8) (indextargets), sources.list(5).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from agent.command import CommandError, run
from lab.errors import LabError

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_SECONDS = 600.0


async def mirror(release: str = "bookworm") -> str:
    """The address from which this machine gets its packages of Debian. Raises LabError."""
    wanted = ("Created-By: Packages", f"Codename: {release}", "Origin: Debian")
    try:
        listed = await run("apt-get", "indextargets", "--format", "$(REPO_URI)", *wanted, check=True)
    except CommandError as exc:
        raise LabError(str(exc)) from exc
    if not listed.text.split():
        raise LabError(f"apt on this machine has no package lists of Debian {release}: run `apt-get update`")
    return listed.text.split()[0]


@dataclass(frozen=True, slots=True)
class Archive:
    """One suite of Debian, looked at by an apt of its own in `folder`."""

    suite: str
    folder: Path

    async def update(self) -> None:
        """Fetch the lists. Raises LabError when the suite can't be reached."""
        for each in ("lists/partial", "cache/archives/partial"):
            (self.folder / each).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        source = f"deb [signed-by={KEYRING}] {await mirror()} {self.suite} main\n"
        (self.folder / "sources.list").write_text(source)
        (self.folder / "apt.conf").write_text(configuration(self.folder))
        await self._apt(f"the package lists of Debian's {self.suite}", "apt-get", "update", "-q", "-o", _ALL_OR_NOTHING)

    async def packages(self, prefix: str) -> list[str]:
        """The names of packages that begin so."""
        found = await self._apt("package names", "apt-cache", "pkgnames", prefix)
        return found.split()

    async def version(self, package: str) -> str:
        """The version that would be fetched."""
        shown = await self._apt(package, "apt-cache", "show", "--no-all-versions", package)
        return next(line.split(": ", 1)[1] for line in shown.splitlines() if line.startswith("Version: "))

    async def download(self, package: str, folder: Path) -> Path:
        """Fetch a package; returns the file in `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        await self._apt(package, "apt-get", "download", "-q", package, cwd=folder)
        return next(iter(folder.glob(f"{package}_*.deb")))

    async def _apt(self, what: str, *argv: str, cwd: Path | None = None) -> str:
        environment = os.environ | {"APT_CONFIG": str(self.folder / "apt.conf"), "LC_ALL": "C"}
        try:
            done = await run(
                *argv, check=True, timeout_seconds=_SECONDS, env=environment, cwd=None if cwd is None else str(cwd)
            )
        except CommandError as exc:
            raise LabError(f"cannot fetch {what} (no network?): {exc}") from exc
        return done.text


_ALL_OR_NOTHING = "APT::Update::Error-Mode=any"


def configuration(folder: Path) -> str:
    """apt's configuration: all that it reads and keeps is in `folder`."""
    return "\n".join(
        [
            f'Dir::Etc::sourcelist "{folder}/sources.list";',
            'Dir::Etc::sourceparts "-";',
            f'Dir::State::lists "{folder}/lists";',
            f'Dir::State::status "{folder}/status";',
            f'Dir::Cache "{folder}/cache";',
            'APT::Sandbox::User "root";',
            "",
        ]
    )
