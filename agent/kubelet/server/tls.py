"""The certificate that the kubelet serves with, and the authority that its clients' certificates must come from.

Source: Kubelet authentication; kubelet's InitializeTLS (a self-signed certificate where none is configured).
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from pathlib import Path

from agent.kubelet.certificates.store import CertificateStore
from agent.kubelet.settings import Settings
from machinery import pki, tlsflags
from machinery.errors import SettingsError


def serving_store(cert_dir: str) -> CertificateStore:
    """Where serving certificates that the cluster issues are kept."""
    return CertificateStore(cert_dir, "kubelet-server")


def server_context(settings: Settings, cert_dir: str, node_name: str, ips: Sequence[str]) -> ssl.SSLContext:
    """TLS as configured; makes a self-signed certificate in `cert_dir` if none is. Raises SettingsError."""
    certificate, key = settings.tls_cert_file, settings.tls_key_file
    if not certificate and settings.server_tls_bootstrap:
        # As upstream: until the cluster has issued one there is none, and nobody can connect.
        current = serving_store(cert_dir).current_path
        certificate = key = str(current) if current.exists() else ""
    elif not certificate:
        certificate, key = os.path.join(cert_dir, "kubelet.crt"), os.path.join(cert_dir, "kubelet.key")
        if not (os.path.exists(certificate) and os.path.exists(key)):
            pair = pki.self_signed_server(node_name, (node_name, *ips))
            try:
                os.makedirs(cert_dir, mode=0o700, exist_ok=True)
                pki.write_pair(pair, Path(certificate), Path(key))
            except OSError as error:
                raise SettingsError(f"cannot write the serving certificate: {error}") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tlsflags.restrict(context, settings.tls_min_version, settings.tls_cipher_suites)
    try:
        if certificate:
            context.load_cert_chain(certificate, key)
        if settings.client_ca_file:
            context.load_verify_locations(settings.client_ca_file)
            context.verify_mode = ssl.CERT_OPTIONAL
    except OSError as error:
        name = (
            settings.client_ca_file if context.verify_mode is ssl.CERT_NONE and settings.client_ca_file else certificate
        )
        raise SettingsError(f"cannot use certificate {name}: {error}") from error
    return context
