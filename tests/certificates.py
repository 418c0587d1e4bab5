"""An authority and a server's certificate, made in a test's directory."""

from pathlib import Path
from typing import NamedTuple

import trustme


class Certificates(NamedTuple):
    """Files of one server."""

    ca: Path
    certificate: Path
    key: Path

    @property
    def tls(self) -> dict[str, Path]:
        """Keys of ``[stream.tls]``."""
        return {"certificate": self.certificate, "key": self.key}


def make_certificates(root: Path, *names: str) -> Certificates:
    """Make a new authority and a certificate for 127.0.0.1, or for other names."""
    authority = trustme.CA()
    issued = authority.issue_cert(*(names or ("127.0.0.1", "localhost")))
    files = Certificates(root / "ca.pem", root / "server.pem", root / "server.key")
    authority.cert_pem.write_to_path(files.ca)
    chain = b"".join(part.bytes() for part in issued.cert_chain_pems)
    files.certificate.write_bytes(chain)
    files.key.touch(mode=0o600)
    issued.private_key_pem.write_to_path(files.key)
    return files
