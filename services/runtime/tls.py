"""Certificates of a server, read again when their files change."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from services.core.errors import InvalidRequest
from services.runtime.logs import get_logger

log = get_logger(__name__)

RELOAD_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files; client_ca_file: callers must bring a certificate that it has signed."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None

    def stamp(self) -> tuple[int, ...]:
        """Changes when a file does."""
        files = (self.cert_file, self.key_file, self.client_ca_file)
        return tuple(file.stat().st_mtime_ns for file in files if file is not None)


class Certificates:
    """One certificate for HTTP and gRPC.

    `reload` takes new files for connections from then on; those that stand are not touched.

    Raises:
        InvalidRequest: the files cannot be read, or do not belong together.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        if files.client_ca_file is not None:
            self.context.verify_mode = ssl.CERT_REQUIRED
        try:
            self._load()
            self._stamp = files.stamp()
        except (OSError, ssl.SSLError) as exc:
            raise InvalidRequest(
                f"TLS certificate {files.cert_file} and key {files.key_file} cannot be used: {exc}",
                field="TOKENMILL_TLS_CERT_FILE",
            ) from exc

    def reload(self) -> bool:
        """Reads the files again if they have changed; returns whether they were taken.

        Raises:
            OSError: they cannot be read, or do not belong together; the old ones stay.
        """
        stamp = self._files.stamp()
        if stamp == self._stamp:
            return False
        # Into a context of its own first: half a change must not end the door.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            self._files.cert_file, self._files.key_file
        )
        self._load()
        self._stamp = stamp
        return True

    async def keep_loaded(self) -> None:
        """Reloads when the files change; runs until cancelled."""
        while True:
            await asyncio.sleep(RELOAD_INTERVAL_S)
            try:
                if self.reload():
                    log.info("tls.reloaded")
            except OSError as exc:
                log.error("tls.not_reloaded", error=repr(exc))

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Credentials that ask for the certificate of the moment at each handshake."""
        first = self._grpc_configuration()
        return grpc.dynamic_ssl_server_credentials(
            first,
            self._grpc_configuration,
            require_client_authentication=self._files.client_ca_file is not None,
        )

    def _load(self) -> None:
        self.context.load_cert_chain(self._files.cert_file, self._files.key_file)
        self._chain = (self._files.key_file.read_bytes(), self._files.cert_file.read_bytes())
        self._client_ca: bytes | None = None
        if self._files.client_ca_file is not None:
            self.context.load_verify_locations(self._files.client_ca_file)
            self._client_ca = self._files.client_ca_file.read_bytes()

    def _grpc_configuration(self) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([self._chain], self._client_ca)
