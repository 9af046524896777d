"""Whom the gate trusts: the system's store, and what the environment adds for other tools.

The variables add here, though in OpenSSL ``SSL_CERT_FILE`` replaces the store: the gate stands in for tools that differ
in that, and must reach what any of them reaches.
"""

from __future__ import annotations

import os
import re
import ssl
import sys

from leasecap._errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
"""What OpenSSL, requests, curl and Node.js read. The second may name several directories."""

_BUNDLES = (
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/cert.pem",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/ca-bundle.pem",
)
"""Where distributions keep their certificates, for a Python whose OpenSSL was built to look elsewhere."""


def client_context(environ: Mapping[str, str]) -> ssl.SSLContext:
    """What verifies servers; slow to make.

    :raises ConfigError: when a variable names a file that holds no certificates, or can't be read.
    """
    context = _system_context()
    for name in _VARIABLES:
        value = environ.get(name, "")
        for path in filter(None, value.split(os.pathsep) if name == "SSL_CERT_DIR" else [value]):
            _add(context, name, path)
    return context


def _add(context: ssl.SSLContext, name: str, path: str) -> None:
    try:
        if os.path.isdir(path):
            context.load_verify_locations(capath=path)
        else:
            context.load_verify_locations(cafile=path)
    except OSError as error:
        raise ConfigError(
            "holds no certificates" if isinstance(error, ssl.SSLError) else f"can't be read: {error.strerror}",
            file="environment",
            key=name,
            value=path,
            allowed="Name a file of certificates (PEM) there, or unset it.",
        ) from None


def _system_context() -> ssl.SSLContext:
    if sys.platform in ("win32", "darwin"):
        import truststore

        return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Not by `truststore` or the default paths here: both obey SSL_CERT_FILE as OpenSSL does, and truststore loads the
    # store again for each handshake.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    paths = ssl.get_default_verify_paths()
    bundle = paths.openssl_cafile if os.path.isfile(paths.openssl_cafile) else None
    folder = paths.openssl_capath if _is_store(paths.openssl_capath) else None
    if bundle is None and folder is None:
        bundle = next(filter(os.path.isfile, _BUNDLES), None)
    if bundle is not None or folder is not None:
        context.load_verify_locations(bundle, folder)
    return context


def _is_store(path: str) -> bool:
    """Whether OpenSSL would find certificates in this directory: by the names that c_rehash gives them."""
    try:
        return any(re.fullmatch(r"[0-9a-f]{8}\.\d+", name) for name in os.listdir(path))
    except OSError:
        return False
