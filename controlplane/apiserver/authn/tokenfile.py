"""Static tokens: --token-auth-file, lines of `token,user,uid,"group1,group2"`.

Source: k8s.io/apiserver/pkg/authentication/token/tokenfile.
"""

from __future__ import annotations

import csv
from pathlib import Path

from controlplane.apiserver.authn.identity import with_authenticated
from controlplane.apiserver.request import User
from machinery.errors import SettingsError
from machinery.log import get_logger

log = get_logger(__name__)

_FLAG = "--token-auth-file"
_FEWEST_COLUMNS = 3


class TokenFile:
    """Knows the tokens of one file, read once."""

    def __init__(self, path: str) -> None:
        self._users: dict[str, User] = {}
        try:
            with Path(path).open(newline="", encoding="utf-8") as lines:
                for row in csv.reader(lines, skipinitialspace=True):
                    self._add(path, row)
        except (OSError, csv.Error, UnicodeDecodeError) as exc:
            raise SettingsError(f"{_FLAG}: can't read {path}: {exc}") from exc

    def _add(self, path: str, row: list[str]) -> None:
        if not row:
            return
        if len(row) < _FEWEST_COLUMNS:
            raise SettingsError(
                f"{_FLAG}: {path} must have at least 3 columns (token, user name, user uid), found {len(row)}"
            )
        token, name, uid = row[0], row[1], row[2]
        if not token:
            log.warning("static token file has a line with an empty token, ignored", path=path, user=name)
            return
        if token in self._users:
            log.warning("static token file has a token twice, the later line counts", path=path, user=name)
        groups = tuple(row[3].split(",")) if len(row) > _FEWEST_COLUMNS and row[3] else ()
        self._users[token] = with_authenticated(User(name, uid, groups))

    async def authenticate_token(self, token: str, audiences: tuple[str, ...]) -> User | None:
        """The user of the token, if the file has it."""
        return self._users.get(token)
