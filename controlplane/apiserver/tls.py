"""The server's side of TLS: its certificate, and client certificates verified if there are any.

Source: kube-apiserver --help (--tls-*, --client-ca-file, --requestheader-client-ca-file).
"""

from __future__ import annotations

import ssl
from pathlib import Path

from controlplane.apiserver.settings import Settings
from machinery import pki
from machinery.errors import SettingsError

_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", "127.0.0.1")


def server_context(settings: Settings) -> ssl.SSLContext:
    """TLS for the secure port. Raises SettingsError naming what is wrong."""
    certificate, key = settings.tls_cert_file, settings.tls_private_key_file
    if not certificate:
        certificate, key = _self_signed(settings)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.tls_min_version == "VersionTLS13":
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as exc:
        raise SettingsError(f"--tls-cert-file {certificate}, --tls-private-key-file {key}: {_told(exc)}") from exc
    for flag, path in (
        ("--client-ca-file", settings.client_ca_file),
        ("--requestheader-client-ca-file", settings.requestheader_client_ca_file),
    ):
        if path:
            context.verify_mode = ssl.CERT_OPTIONAL
            try:
                context.load_verify_locations(path)
            except (ssl.SSLError, OSError) as exc:
                raise SettingsError(f"{flag} {path}: {_told(exc)}") from exc
    # Client certificates of intermediate authorities that are trusted themselves are accepted, as in Go.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _told(exc: Exception) -> str:
    if isinstance(exc, ssl.SSLError):
        return str(exc.reason or exc).replace("_", " ").lower()
    return str(getattr(exc, "strerror", None) or exc)


def _self_signed(settings: Settings) -> tuple[str, str]:
    """(certificate, key) paths in --cert-dir, made if they aren't there."""
    folder = Path(settings.cert_dir)
    certificate, key = folder / "apiserver.crt", folder / "apiserver.key"
    if not (certificate.is_file() and key.is_file()):
        address = settings.advertise_address or settings.bind_address
        names = dict.fromkeys([address, *_NAMES])
        try:
            folder.mkdir(parents=True, exist_ok=True)
            pki.write_pair(pki.self_signed_server(address, tuple(names)), certificate, key)
        except OSError as exc:
            raise SettingsError(f"--cert-dir {folder}: {exc.strerror}") from exc
    return str(certificate), str(key)
