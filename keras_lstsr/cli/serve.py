"""``keras-lstsr serve``: the local server with TF Serving's gRPC API."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from keras_lstsr.cli import path_option, token_option
from keras_lstsr.errors import MissingExtraError
from keras_lstsr.inference.connection import DEFAULT_REQUEST_PIXELS


@click.command()
@click.argument("models_dir", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 for all addresses.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8500,
    show_default=True,
    help="0 takes a free one.",
)
@click.option("--model-name", default="lstsr", show_default=True, help="Name that clients ask for.")
@click.option(
    "--poll",
    "poll_seconds",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    help="Seconds between checks for new versions.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=DEFAULT_REQUEST_PIXELS,
    show_default=True,
    help="LST pixels of a request over its whole batch; a larger one is refused.",
)
@click.option(
    "--max-message",
    "message_mib",
    type=click.IntRange(1, 2047),
    default=128,
    show_default=True,
    help="MiB of a request.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Requests that run at a time; each may need about 2 KB of memory for an LST pixel.",
)
@click.option(
    "--max-requests",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Requests that run or wait; further ones are refused.",
)
@path_option("--tls-cert", help="PEM file of the server's certificate chain; uses TLS.")
@path_option("--tls-key", help="PEM file of its private key.")
@path_option("--client-ca", help="PEM file of who signs clients' certificates; wants one of each.")
@token_option
@click.option(
    "--grace",
    "grace_seconds",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    help="Seconds that running requests may still take after a signal.",
)
def command(
    models_dir: Path,
    max_pixels: int,
    message_mib: int,
    workers: int,
    max_requests: int,
    tls_cert: Path | None,
    tls_key: Path | None,
    client_ca: Path | None,
    token_file: Path | None,
    **options: Any,
) -> None:
    """Serves the versions in MODELS_DIR (e.g. models/lstsr) until Ctrl+C or SIGTERM.

    Speaks TF Serving's gRPC API: Predict, GetModelMetadata, GetModelStatus. The newest version
    answers unless a request names another; new versions are loaded while it runs.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only
    try:
        import grpc  # noqa: F401
        import tensorflow_serving.apis.predict_pb2  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "serving needs TensorFlow, gRPC and TF Serving's protocol buffers",
            field=error.name,
            action="Install them with `pip install 'keras-lstsr[serving]'`.",
        ) from error
    from keras_lstsr.inference.connection import read_token
    from serving.local_server import serve
    from serving.requests import RequestLimits
    from serving.security import ServerSecurity

    limits = RequestLimits(
        pixels=max_pixels,
        message_bytes=message_mib * 2**20,
        running=workers,
        open=max_requests,
    )
    security = ServerSecurity(tls_cert, tls_key, client_ca, read_token(token_file))
    serve(models_dir, announce=click.echo, limits=limits, security=security, **options)
