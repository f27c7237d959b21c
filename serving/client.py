"""A client of TF Serving or of the local server: it cannot tell the two apart.

``python -m serving.client HOST:PORT`` prints the model's versions, signatures and provenance.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from keras_lstsr.errors import LstsrError
from keras_lstsr.inference.connection import DEFAULT_MODEL_NAME, ServerAccess, read_token
from keras_lstsr.inference.remote import GrpcPredictor

_FILE = click.Path(path_type=Path)


class LstsrClient(GrpcPredictor):
    """A predictor over gRPC that can also ask the server about its models.

    Args: as of ``GrpcPredictor``.
    """

    def status(self) -> dict[int, str]:
        """Returns the state of each version, e.g. ``{2: "AVAILABLE", 1: "AVAILABLE"}``.

        Raises:
            ServingError: If the server cannot be reached or has no such model.
        """
        from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

        request = get_model_status_pb2.GetModelStatusRequest()
        self.fill_model_spec(request.model_spec)
        stub = model_service_pb2_grpc.ModelServiceStub(self._channel)
        answer = self.invoke(stub.GetModelStatus, request)
        state_name = get_model_status_pb2.ModelVersionStatus.State.Name
        return {
            entry.version: state_name(entry.state)
            + (f": {entry.status.error_message}" if entry.status.error_message else "")
            for entry in answer.model_version_status
        }

    def metadata(self) -> tuple[int, dict[str, dict[str, dict[str, tuple[str, str]]]]]:
        """Returns the version that answers, and its signatures.

        Returns:
            Version number; signature -> ``"inputs"`` or ``"outputs"`` -> tensor -> (data type,
            shape with ``?`` where free).

        Raises:
            ServingError: If the server cannot be reached or has no such model.
        """
        import tensorflow as tf
        from tensorflow_serving.apis import get_model_metadata_pb2, prediction_service_pb2_grpc

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        self.fill_model_spec(request.model_spec)
        stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        answer = self.invoke(stub.GetModelMetadata, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(signatures)

        def describe(tensors: Any) -> dict[str, tuple[str, str]]:
            described = {}
            for name, info in sorted(tensors.items()):
                sides = ["?" if side.size < 0 else str(side.size) for side in info.tensor_shape.dim]
                described[name] = tf.dtypes.as_dtype(info.dtype).name, f"[{', '.join(sides)}]"
            return described

        return answer.model_spec.version.value, {
            name: {"inputs": describe(definition.inputs), "outputs": describe(definition.outputs)}
            for name, definition in sorted(signatures.signature_def.items())
            if definition.method_name == "tensorflow/serving/predict"
        }


@click.command()
@click.argument("address", metavar="HOST:PORT")
@click.option("--model-name", default=DEFAULT_MODEL_NAME, show_default=True)
@click.option("--version", type=int, help="A version's number; the newest if left out.")
@click.option("--timeout", default=30.0, show_default=True, help="Seconds to wait.")
@click.option("--tls", is_flag=True, help="Encrypt, and check the server's certificate.")
@click.option("--ca", type=_FILE, help="PEM file of who signs the server's certificate; uses TLS.")
@click.option("--client-cert", type=_FILE, help="PEM file to show to the server.")
@click.option("--client-key", type=_FILE, help="PEM file of that certificate's key.")
@click.option("--token-file", type=_FILE, help="File of a token  [default: LSTSR_TOKEN]")
def command(
    address: str,
    model_name: str,
    version: int | None,
    timeout: float,
    tls: bool,
    ca: Path | None,
    client_cert: Path | None,
    client_key: Path | None,
    token_file: Path | None,
) -> None:
    """Print the versions, signatures and provenance of the model served at HOST:PORT."""
    console = Console(highlight=False, soft_wrap=True)
    with LstsrClient(
        address,
        model_name=model_name,
        version=version,
        timeout_seconds=timeout,
        access=ServerAccess(tls, ca, client_cert, client_key, read_token(token_file)),
    ) as client:
        for number, state in client.status().items():
            console.print(f"{model_name} version {number}: {state}", markup=False)
        answering, signatures = client.metadata()
        table = Table(title=f"signatures of version {answering}")
        for column in ("signature", "", "tensor", "data type", "shape"):
            table.add_column(column)
        for name, sides in signatures.items():
            for side, tensors in sides.items():
                for tensor, (dtype, shape) in tensors.items():
                    table.add_row(name, side.removesuffix("s"), tensor, dtype, shape)
        console.print(table)
        console.print(client.contract.to_json(), markup=False)


def main() -> None:
    """Runs the command; an error is printed without traceback, exit status 2."""
    try:
        command()
    except LstsrError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
