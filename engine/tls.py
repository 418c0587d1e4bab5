"""TLS of the stream: the server's certificate, renewed while it runs, and whom a client trusts."""

import os
import ssl
from pathlib import Path

from engine.core.errors import ConfigError
from engine.stream_config import TlsConfig
from feeds.private_files import check_private


class ServerTls:
    """A server's certificate and key; a renewed pair serves from the next handshake on.

    Args:
        config: Where they are.

    Raises:
        ConfigError: they cannot be used, or others may read the key.
    """

    def __init__(self, config: TlsConfig) -> None:
        self._config = config
        self._state = self._look()
        self.problem = ""
        """Why a renewed pair is not used, "" if there is none such."""
        self.context = _server_context(config)

    def refresh(self) -> None:
        """Take in a renewed pair; one that cannot be used leaves the old in place."""
        state = self._look()
        if state == self._state:
            return
        self._state = state
        try:
            _server_context(self._config)
            self.context.load_cert_chain(self._config.certificate, self._config.key)
            self.problem = ""
        except (ConfigError, OSError) as error:
            self.problem = f"the old certificate stays: {error}"

    def _look(self) -> tuple[int, ...]:
        found = []
        for path in (self._config.certificate, self._config.key):
            try:
                about = os.stat(path)
            except OSError:
                continue
            found += [about.st_mtime_ns, about.st_ino, about.st_size, about.st_mode]
        return tuple(found)


def _server_context(config: TlsConfig) -> ssl.SSLContext:
    check_private(config.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(config.certificate, config.key, password=_no_password)
    except (OSError, ValueError) as error:
        expected = "give a certificate chain and its key, both PEM and not encrypted"
        raise ConfigError(config.certificate, "", _told(error), expected) from None
    return context


def client_context(ca: Path | None) -> ssl.SSLContext:
    """Return what a client checks a server with: the system's authorities, or those in a file.

    Raises:
        ConfigError: the file cannot be used.
    """
    if ca is None:
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(ca)
    except (OSError, ValueError) as error:
        expected = "give a PEM file of certificates to trust"
        raise ConfigError(ca, "", _told(error), expected) from None
    return context


def own_server_context(certificate: Path) -> ssl.SSLContext:
    """Return what a process checks a server on its own machine with: that very certificate.

    Its name is not looked at, since nobody is asked for it: the address is loopback.

    Raises:
        ConfigError: the file cannot be used.
    """
    context = client_context(certificate)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _told(error: Exception) -> str:
    """Return an error's text; OpenSSL's has no bytes of the file in it."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _no_password() -> str:
    raise ValueError("the key is encrypted")
