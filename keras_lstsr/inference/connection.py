"""The way to a prediction server: its address, TLS, a token, and what its silence means."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_lstsr.errors import MissingExtraError, ServingError

if TYPE_CHECKING:
    import grpc

DEFAULT_PORT = 8500
DEFAULT_MODEL_NAME = "lstsr"
# Four tiles of 128 pixels take the papers' network (45 million weights) about 45 s on two cores.
DEFAULT_TIMEOUT_SECONDS = 300.0
DEFAULT_MESSAGE_BYTES = 64 * 2**20
# As a square of 512 pixels a side; the papers' network takes about three minutes for it.
DEFAULT_REQUEST_PIXELS = 2**18
DEFAULT_RETRY_SECONDS = 120.0
SCHEME = "grpc://"
TOKEN_VARIABLE = "LSTSR_TOKEN"
_MOST_CONNECT_SECONDS = 10.0
_LONGEST_TOKEN = 4096

CertificateFile = tuple[str, Path | None]


@dataclass(frozen=True)
class ServerAccess:
    """How a client reaches a server.

    Attributes:
        tls: Encrypt, and check the server's certificate. So does naming any of the files.
        ca_file: PEM file of the authorities that sign the server's certificate; None takes those
            that gRPC comes with.
        certificate_file: PEM file of this client's own certificate chain, if the server wants one.
        key_file: PEM file of its private key.
        token: Sent with each call as ``authorization: Bearer TOKEN``.

    Raises:
        ServingError: If a file is missing or does not fit the others.
    """

    tls: bool = False
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_certificates(
            ssl.PROTOCOL_TLS_CLIENT,
            ca=("--ca", self.ca_file),
            certificate=("--client-cert", self.certificate_file),
            key=("--client-key", self.key_file),
        )

    @property
    def encrypted(self) -> bool:
        """Whether TLS is used."""
        return self.tls or self.ca_file is not None or self.certificate_file is not None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with each call."""
        return () if self.token is None else (("authorization", f"Bearer {self.token}"),)


def read_token(file: Path | None) -> str | None:
    """Reads a token from a file, or else from the environment variable ``LSTSR_TOKEN``.

    Returns:
        The token; None where there is neither.

    Raises:
        ServingError: If the file cannot be read, or this is no token. The text is not shown.
    """
    if file is None:
        text = os.environ.get(TOKEN_VARIABLE)
        if text is None:
            return None
    else:
        text = _content(file, "--token-file").decode("utf-8", "replace")
    token = text.strip()
    if not token or len(token) > _LONGEST_TOKEN or not re.fullmatch("[!-~]+", token):
        raise ServingError(
            "this is no token",
            path=file,
            field=None if file else TOKEN_VARIABLE,
            expected=f"1 to {_LONGEST_TOKEN} letters, digits and signs of ASCII, without spaces",
            action="`openssl rand -hex 32` makes a good one.",
        )
    return token


def check_certificates(
    protocol: Any, *, ca: CertificateFile, certificate: CertificateFile, key: CertificateFile
) -> None:
    """Checks files of certificates, each given with its option, before gRPC gets them.

    Raises:
        ServingError: If one cannot be read, is no PEM file, or does not fit another.
    """
    if (certificate[1] is None) != (key[1] is None):
        raise ServingError(
            "a certificate and its key belong together",
            field=f"{certificate[0]}, {key[0]}",
            action="Give both.",
        )
    context = ssl.SSLContext(protocol)
    option, file = ca if ca[1] is not None else certificate
    try:
        if ca[1] is not None:
            _content(ca[1], ca[0])
            context.load_verify_locations(ca[1])
        option, file = certificate
        if certificate[1] is not None and key[1] is not None:
            _content(certificate[1], certificate[0])
            _content(key[1], key[0])
            # Without a password of our own, OpenSSL would ask for one at the terminal.
            context.load_cert_chain(certificate[1], key[1], password="")
    except (ssl.SSLError, ValueError) as error:
        raise ServingError(
            "this is no certificate in PEM format, or its key is another's or has a password",
            path=file,
            field=option,
            found=getattr(error, "reason", None) or error,
        ) from error


def _content(file: Path, option: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ServingError(
            "the file cannot be read", path=file, field=option, found=error.strerror
        ) from error


def is_loopback(host: str) -> bool:
    """Says whether only this machine reaches an address."""
    host = host.strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def server_address(address: str) -> str:
    """Returns ``HOST:PORT`` of an address with or without ``grpc://``.

    Raises:
        ServingError: If it has another scheme, or no host or no port.
    """
    bare = address.removeprefix(SCHEME)
    scheme, separator, rest = bare.partition("://")
    expected = f"HOST:PORT, e.g. localhost:{DEFAULT_PORT}"
    if separator:
        host, _, port = rest.partition("/")[0].rpartition("@")[2].partition(":")
        place = f"{host or 'localhost'}:{port if port.isdecimal() else DEFAULT_PORT}"
        secure = f" --tls (or --ca FILE) and --server {place}" if scheme.lower() == "https" else ""
        raise ServingError(
            "a server is asked over gRPC, and its address has no scheme",
            field="address",
            found=f"{scheme}://…",
            expected=expected,
            action=f"Write{secure or f' --server {place}'}. TF Serving listens for gRPC at port "
            f"{DEFAULT_PORT}, for HTTP at 8501.",
        )
    bare = bare.rstrip("/")
    host, _, port = bare.rpartition(":")
    if not host or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        problem = "this is not a server address"
        raise ServingError(problem, field="address", found=repr(address), expected=expected)
    return bare


def open_channel(address: str, access: ServerAccess, timeout_seconds: float) -> grpc.Channel:
    """Connects to a server.

    Raises:
        ServingError: If nobody answers, or the token would be sent for all to read.
        MissingExtraError: If the extra ``serving`` is not installed.
    """
    try:
        import grpc
        import tensorflow_serving.apis.predict_pb2  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "talking to a server needs gRPC and TF Serving's protocol buffers",
            field=error.name,
            action="Install them with `pip install 'keras-lstsr[serving]'`.",
        ) from error
    if access.token and not access.encrypted and not is_loopback(address.rpartition(":")[0]):
        raise ServingError(
            "the token would be sent to another machine unencrypted",
            path=address,
            action=f"Use --tls or --ca FILE; or take the token away ({TOKEN_VARIABLE}).",
        )
    options = [
        # A client's limit is 4 MiB unless it is raised: 1024 × 1024 float32 is just over that.
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        # A server that was started again is found within seconds, not two minutes.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 2000),
    ]
    if access.encrypted:
        files = (access.ca_file, access.key_file, access.certificate_file)
        credentials = grpc.ssl_channel_credentials(*(f.read_bytes() if f else None for f in files))
        channel = grpc.secure_channel(address, credentials, options=options)
    else:
        channel = grpc.insecure_channel(address, options=options)
    wait_seconds = min(timeout_seconds, _MOST_CONNECT_SECONDS)
    try:
        grpc.channel_ready_future(channel).result(timeout=wait_seconds)
    except grpc.FutureTimeoutError as error:
        reason = _reason(channel)
        channel.close()
        raise unreachable(address, reason) from error
    return channel


def _reason(channel: grpc.Channel) -> str:
    """Asks a channel that does not get ready why."""
    import grpc

    call = channel.unary_unary("/keras_lstsr/Nothing")
    try:
        call(b"", timeout=1.0)
    except grpc.RpcError as error:
        return str(error.details() or "no answer")
    return "no answer"


def unreachable(address: str, found: str) -> ServingError:
    """Returns the error that no server answers at an address."""
    action = (
        "Start one with `keras-lstsr serve models/lstsr --port "
        f"{address.rpartition(':')[2]}`, or see serving/README.md for TF Serving."
    )
    if "handshake" in found.lower() or "certificate" in found.lower():
        action = (
            "The server's certificate is not for this name, or not signed by an authority of --ca; "
            "or the server wants a certificate of yours (--client-cert) or speaks no TLS."
        )
    return ServingError(
        "the prediction server cannot be reached", path=address, found=found, action=action
    )


def passes(error: grpc.RpcError) -> bool:
    """Says whether a call that failed may succeed a little later: a restart, or a crowd."""
    import grpc

    code, details = error.code(), error.details() or ""
    # The server breaks calls off that outlive its grace; this client breaks off none.
    return code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED) or (
        code is grpc.StatusCode.RESOURCE_EXHAUSTED and "Concurrent RPC limit" in details
    )


def serving_error(error: grpc.RpcError, address: str, model_name: str) -> ServingError:
    """Returns our error of a call that failed, with the server's own words."""
    import grpc

    code, details = error.code(), (error.details() or "").rstrip(". ")
    if code is grpc.StatusCode.UNAVAILABLE:
        return unreachable(address, details)
    action = {
        grpc.StatusCode.NOT_FOUND: "Ask for a model and version that the server has; "
        f"`python -m serving.client {address}` lists the versions of {DEFAULT_MODEL_NAME}.",
        grpc.StatusCode.DEADLINE_EXCEEDED: "Send smaller batches or tiles, or allow more time.",
        grpc.StatusCode.FAILED_PRECONDITION: "The server's model was not exported by "
        "keras-lstsr, or by another version: export and serve it again.",
        grpc.StatusCode.UNAUTHENTICATED: "Give the server's token with --token-file FILE or in "
        f"the environment variable {TOKEN_VARIABLE}.",
        grpc.StatusCode.RESOURCE_EXHAUSTED: "Send smaller batches or tiles, or try again later.",
    }.get(code, "Correct the request; contract.json beside the SavedModel describes it.")
    return ServingError(
        "the prediction server refuses the request",
        path=address,
        field=f"model {model_name}",
        found=f"{code.name}: {details}",
        action=action,
    )
