"""The hand that fills ipsets: all of them in one run of `ipset restore`.

Source: ipset(8).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from agent.command import CommandError, run
from agent.proxy.errors import BackendError
from agent.proxy.ipvs.rendering import SETS, Member, set_name
from agent.proxy.model import Family

_TIMEOUT_SECONDS = 60
_SHOWN_CHARS = 600
_MOST_MEMBERS = 1 << 20


def replace_text(family: Family, members: Mapping[str, Collection[str]], there: Mapping[str, Collection[str]]) -> bytes:
    """What gives every set exactly these members; `there` are the sets that the kernel has, with what is in them.

    (Filling sets anew and swapping them would make the kernel wait for all its readers, once for each set.)
    """
    lines = []
    for name, kind in SETS.items():
        own = set_name(family, name)
        if name not in there:
            lines.append(f"create {own} {kind} {_options(kind, family)}")
        wanted, present = set(members.get(name, ())), set(there.get(name, ()))
        lines += [f"add {own} {text}" for text in sorted(wanted - present)]
        lines += [f"del {own} {text}" for text in sorted(present - wanted)]
    return _text(lines)


def change_text(family: Family, added: Iterable[Member], removed: Iterable[Member]) -> bytes:
    """What adds and removes members."""
    lines = [f"add {set_name(family, m.set)} {m.text}" for m in sorted(added)]
    return _text([*lines, *(f"del {set_name(family, m.set)} {m.text}" for m in sorted(removed))])


async def restore(text: bytes) -> None:
    """Carry it out. Raises BackendError."""
    if text:
        await _ipset("restore", "-exist", stdin=text)


async def present(family: Family) -> dict[str, list[str]]:
    """The members of our sets, by their names without prefix."""
    found: dict[str, list[str]] = {}
    names = {set_name(family, name): name for name in SETS}
    for line in (await _ipset("save")).splitlines():
        words = line.split()
        if words[:1] == ["create"] and words[1] in names:
            found[names[words[1]]] = []
        elif words[:1] == ["add"] and words[1] in names:
            found[names[words[1]]].append(words[2])
    return found


async def remove(family: Family) -> None:
    """Take all our sets away; no rule may refer to them any more."""
    there = await present(family)
    lines = [f"destroy {set_name(family, name)}" for name in sorted(there)]
    if lines:
        await restore(_text(lines))


def _options(kind: str, family: Family) -> str:
    if kind.startswith("bitmap"):
        return "range 0-65535"
    return f"family {'inet' if family is Family.IPV4 else 'inet6'} maxelem {_MOST_MEMBERS}"


def _text(lines: Iterable[str]) -> bytes:
    return "".join(line + "\n" for line in lines).encode()


async def _ipset(*arguments: str, stdin: bytes | None = None) -> str:
    try:
        result = await run("ipset", *arguments, stdin=stdin, timeout_seconds=_TIMEOUT_SECONDS)
    except CommandError as error:
        raise BackendError(str(error)) from error
    if result.returncode != 0:
        said = result.stderr.decode(errors="replace").strip()[:_SHOWN_CHARS]
        raise BackendError(f"ipset: {said or f'exit status {result.returncode}'}")
    return result.text
