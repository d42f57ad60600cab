"""Which TLS versions and cipher suites a server speaks, as upstream's --tls-min-version and --tls-cipher-suites say it.

Source: component-base/cli/flag/ciphersuites_flag.go; Go's crypto/tls (names of suites; those of TLS 1.3 can't be
chosen).
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from machinery.errors import SettingsError
from machinery.settings import Flag, strings

_VERSIONS = {"": ssl.TLSVersion.TLSv1_2, "VersionTLS12": ssl.TLSVersion.TLSv1_2, "VersionTLS13": ssl.TLSVersion.TLSv1_3}
_TLS13 = frozenset(("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"))

# The parts of Go's names, and how OpenSSL calls them.
_KEYS = {"TLS_ECDHE_ECDSA_": "ECDHE-ECDSA-", "TLS_ECDHE_RSA_": "ECDHE-RSA-", "TLS_RSA_": ""}
_BODIES = {
    "WITH_AES_128_CBC_SHA": "AES128-SHA",
    "WITH_AES_256_CBC_SHA": "AES256-SHA",
    "WITH_AES_128_CBC_SHA256": "AES128-SHA256",
    "WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "WITH_CHACHA20_POLY1305": "CHACHA20-POLY1305",
    "WITH_CHACHA20_POLY1305_SHA256": "CHACHA20-POLY1305",
}
_SUITES = {
    key + body: theirs + suite
    for key, theirs in _KEYS.items()
    for body, suite in _BODIES.items()
    if theirs or "CHACHA20" not in body
}


def _version(text: str) -> str:
    if text not in _VERSIONS:
        raise ValueError(f'unknown tls version "{text}": only VersionTLS12 and VersionTLS13 are supported')
    return text


def known_suites(names: Sequence[str]) -> Sequence[str]:
    """The same names, all of which Go has and OpenSSL too. Raises ValueError."""
    for name in names:
        if name not in _TLS13 and name not in _SUITES:
            raise ValueError(f"Cipher suite {name} not supported or doesn't exist")
    return names


FLAGS = (
    Flag("tls-min-version", _version, "", "VersionTLS12 or VersionTLS13; empty: VersionTLS12"),
    Flag(
        "tls-cipher-suites",
        lambda text: known_suites(strings(text)),
        [],
        "cipher suites for TLS 1.2, by Go's names; empty: those of OpenSSL",
    ),
)


def restrict(context: ssl.SSLContext, min_version: str, suites: Sequence[str]) -> None:
    """Let the server speak these only. Raises SettingsError if this OpenSSL has none of the suites any more."""
    context.minimum_version = _VERSIONS[min_version]
    if not suites:
        return
    chosen = [_SUITES[name] for name in suites if name not in _TLS13]
    if not chosen:  # only suites that TLS 1.2 does not know
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return
    try:
        context.set_ciphers(":".join(chosen))
    except ssl.SSLError as exc:
        raise SettingsError(f"--tls-cipher-suites: {','.join(suites)}: {exc.args[0]}") from exc
