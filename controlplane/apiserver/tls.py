"""The server's side of TLS: its certificate, and the certificates that clients show.

As in kube-apiserver, a client may show any certificate: whose it is, is asked when a request is authenticated, so that
a stranger's certificate is answered 401 like any other wrong credential, and a token beside it still counts.
docs/decisions/0030-client-certificates.md says how.

Source: kube-apiserver --help (--tls-*, --client-ca-file, --requestheader-client-ca-file); k8s.io/apiserver
SecureServingInfo.tlsConfig (tls.RequestClientCert).
"""

from __future__ import annotations

import _ssl
import ctypes
import ssl
from pathlib import Path

from controlplane.apiserver.servingcertificates import Pair, ServingCertificates
from controlplane.apiserver.settings import Settings
from machinery import pki, tlsflags
from machinery.errors import SettingsError

_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", "127.0.0.1")


def server_context(settings: Settings) -> ssl.SSLContext:
    """TLS for the secure port. Raises SettingsError naming what is wrong."""
    certificate, key = settings.tls_cert_file, settings.tls_private_key_file
    if not certificate:
        certificate, key = _self_signed(settings)
    pairs = [Pair(certificate, key), *(Pair(*given) for given in settings.tls_sni_cert_key)]
    return ServingCertificates(pairs, lambda pair: _context(settings, pair)).context


def _context(settings: Settings, pair: Pair) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tlsflags.restrict(context, settings.tls_min_version, settings.tls_cipher_suites)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(pair.certificate, pair.key)
    except (ssl.SSLError, OSError) as exc:
        files = f"--tls-cert-file {pair.certificate}, --tls-private-key-file {pair.key}"
        if (pair.certificate, pair.key, pair.names) in settings.tls_sni_cert_key:
            files = f"--tls-sni-cert-key {pair.certificate},{pair.key}"
        raise SettingsError(f"{files}: {_told(exc)}") from exc
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
    if context.verify_mode is ssl.CERT_OPTIONAL:
        _leave_verification_to_authentication(context)
    return context


_VERIFY = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_take_any = _VERIFY(lambda _store, _argument: 1)  # lives as long as the contexts that hold it


def _leave_verification_to_authentication(context: ssl.SSLContext) -> None:
    """Let OpenSSL take any client certificate. The `ssl` module has no way to say so; OpenSSL has.

    Where the interpreter's OpenSSL can't be reached, strangers are refused in the handshake instead.
    """
    try:
        set_callback = ctypes.CDLL(_ssl.__file__).SSL_CTX_set_cert_verify_callback
    except (AttributeError, OSError):
        return
    set_callback.argtypes = (ctypes.c_void_p, _VERIFY, ctypes.c_void_p)
    set_callback.restype = None
    # struct PySSLContext is the object's head, then the SSL_CTX *.
    set_callback(ctypes.c_void_p.from_address(id(context) + object.__basicsize__), _take_any, None)


def peer_certificates(connection: ssl.SSLObject | None) -> tuple[bytes, ...]:
    """The certificates (DER) that the client showed, its own first; none of them is verified."""
    if connection is None:
        return ()
    own = connection.getpeercert(True)
    if own is None:
        return ()
    # Public only from Python 3.13 on.
    shown = connection._sslobj.get_unverified_chain() or ()  # type: ignore[attr-defined]
    return (own, *(each.public_bytes(_ssl.ENCODING_DER) for each in shown[1:]))


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
