"""Who may use the local server: TLS, certificates of clients, and a bearer token."""

from __future__ import annotations

import hmac
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from keras_lstsr.errors import ServingError
from keras_lstsr.inference.connection import check_certificates, is_loopback


@dataclass(frozen=True)
class ServerSecurity:
    """How the server proves who it is, and whom it answers.

    Attributes:
        certificate_file: PEM file of the server's certificate chain; with it, TLS is used.
        key_file: PEM file of its private key.
        client_ca_file: PEM file of the authorities that sign clients' certificates; with it, only
            clients with such a certificate are answered.
        token: Only calls with ``authorization: Bearer TOKEN`` are answered.

    Raises:
        ServingError: If a file is missing or does not fit the others.
    """

    certificate_file: Path | None = None
    key_file: Path | None = None
    client_ca_file: Path | None = None
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_certificates(
            ssl.PROTOCOL_TLS_SERVER,
            ca=("--client-ca", self.client_ca_file),
            certificate=("--tls-cert", self.certificate_file),
            key=("--tls-key", self.key_file),
        )
        if self.client_ca_file is not None and self.certificate_file is None:
            raise ServingError(
                "certificates of clients need TLS",
                field="--client-ca",
                action="Give --tls-cert and --tls-key, too.",
            )

    def credentials(self) -> Any:
        """Returns gRPC's credentials; None without TLS."""
        if self.certificate_file is None or self.key_file is None:
            return None
        authorities = self.client_ca_file.read_bytes() if self.client_ca_file else None
        return grpc.ssl_server_credentials(
            [(self.key_file.read_bytes(), self.certificate_file.read_bytes())],
            root_certificates=authorities,
            require_client_auth=authorities is not None,
        )

    def interceptors(self) -> list[grpc.ServerInterceptor]:
        """Returns what looks at a call before its message is read."""
        return [] if self.token is None else [_TokenCheck(self.token)]

    def warning(self, host: str) -> str | None:
        """Says what is open to others at an address; None where nothing is."""
        if is_loopback(host):
            return None
        lacking = []
        if self.certificate_file is None:
            lacking.append("anyone on the way can read and change what is sent: --tls-cert")
        if self.token is None and self.client_ca_file is None:
            lacking.append("anyone who reaches it can use it: --token-file or --client-ca")
        if not lacking:
            return None
        return f"Warning: the server listens at {host}, and {'; '.join(lacking)} would prevent it."


class _TokenCheck(grpc.ServerInterceptor):
    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

        def refuse(request: Any, context: grpc.ServicerContext) -> Any:
            context.abort(
                grpc.StatusCode.UNAUTHENTICATED,
                "this server answers only calls with its token: authorization: Bearer TOKEN",
            )

        self._refusal = grpc.unary_unary_rpc_method_handler(refuse)

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Lets calls with the token pass."""
        given = dict(details.invocation_metadata).get("authorization", "")
        given = given if isinstance(given, bytes) else given.encode("utf-8", "replace")
        # In a time that does not tell how much of it is right.
        return (
            continuation(details) if hmac.compare_digest(given, self._expected) else self._refusal
        )
