"""--runtime-config: which groups and versions clients see.

Source: kube-apiserver --help; k8s.io/apiserver/pkg/server/resourceconfig.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from machinery.api.catalogue import BUILT_IN
from machinery.errors import SettingsError
from machinery.log import get_logger

log = get_logger(__name__)

_FLAG = "--runtime-config"
_ALL = {"api/all": re.compile(""), "api/ga": re.compile(r"v\d+$"), "api/beta": re.compile(r"v\d+beta\d+$")}
_ALL["api/alpha"] = re.compile(r"v\d+alpha\d+$")
_INDISPENSABLE = ("", "v1")


def disabled(switches: Sequence[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """Groups and versions that are turned off. What is said of one version outweighs what is said of many.

    Raises SettingsError for groups that there are none of, and for turning off what nothing works without.
    """
    known = dict.fromkeys((resource.group, resource.version) for resource in BUILT_IN)
    groups = {group for group, _ in known}
    off: set[tuple[str, str]] = set()
    chosen = dict(switches)
    for name, pattern in _ALL.items():
        if chosen.get(name) == "false":
            off |= {each for each in known if pattern.match(each[1])}
        elif chosen.get(name) == "true" and name != "api/all":
            off -= {each for each in known if pattern.match(each[1])}
    for name, value in chosen.items():
        if name in _ALL:
            continue
        group, slash, version = name.rpartition("/")
        if not slash or "/" in group:
            if name != "v1":
                raise SettingsError(f"{_FLAG}: {name!r} is not group/version, api/all, api/ga, api/beta or api/alpha")
            group, version = "", "v1"
        if group not in groups:
            raise SettingsError(f"{_FLAG}: unknown api groups {group}")
        if (group, version) not in known:
            if value == "true":
                log.warning("--runtime-config turns on a version that there is none of here", version=name)
            continue
        (off.discard if value == "true" else off.add)((group, version))
    if _INDISPENSABLE in off and "api/all" not in chosen and "api/ga" not in chosen:
        raise SettingsError(f"{_FLAG}: v1 can't be turned off")
    return frozenset(off - {_INDISPENSABLE})
