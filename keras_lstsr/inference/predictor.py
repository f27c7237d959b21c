"""What a predictor is: one interface for Keras, a SavedModel, and a server over gRPC."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.artifacts.contract import FOLLOWED_NAME, OUTPUT_NAME, STD_NAME, Contract

Batch = NDArray[np.floating]


@dataclass(frozen=True)
class Prediction:
    """What a model says of a batch.

    Attributes:
        lst_kelvin: ``[B, f·h, f·w, 1]`` kelvin, NaN on the fine pixels of missing coarse ones.
        std_kelvin: Standard deviation of the error of its detail, likewise; None from a model
            that gives none, or was not asked for it.
        guide_followed: How far the result follows the guides, 0 (bicubic) to 1, likewise.
    """

    lst_kelvin: NDArray[np.float32]
    std_kelvin: NDArray[np.float32] | None = None
    guide_followed: NDArray[np.float32] | None = None


@runtime_checkable
class Predictor(Protocol):
    """Turns coarse LST, and guides where the model takes any, into fine LST.

    Attributes:
        contract: What the model takes, gives and comes from.
        scale_factor: Fine pixels along a coarse pixel's side.
        provenance: Where the model comes from.
    """

    @property
    def contract(self) -> Contract: ...  # noqa: D102

    @property
    def scale_factor(self) -> int: ...  # noqa: D102

    @property
    def provenance(self) -> Mapping[str, Any]: ...  # noqa: D102

    def predict(
        self,
        lst_kelvin: Batch,
        guides: Mapping[str, Batch] | None = None,
        *,
        outputs: Sequence[str] | None = None,
    ) -> Prediction:
        """Predicts a batch.

        Args:
            lst_kelvin: ``[B, h, w, 1]`` kelvin, NaN where missing.
            guides: Name → ``[B, f·h, f·w, 1]``, NaN where missing, of the guides that the contract
                names. One that is left out is missing throughout.
            outputs: Names of the contract's outputs that are wanted beside LST; None means all.
                What is not wanted is not sent by a server.

        Returns:
            Fine LST in kelvin and what else the model gives.

        Raises:
            ModelError: If shape, type, size or units do not fit the contract, or the model does
                not take a guide that is given.
            ServingError: If a server cannot be reached or refuses.
        """
        ...


class ContractPredictor(ABC):
    """What the three predictors share: a contract, what follows from it, and its checks."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract

    @property
    def scale_factor(self) -> int:
        """Fine pixels along a coarse pixel's side."""
        return self.contract.scale_factor

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Where the model comes from."""
        return self.contract.provenance

    def predict(
        self,
        lst_kelvin: Batch,
        guides: Mapping[str, Batch] | None = None,
        *,
        outputs: Sequence[str] | None = None,
    ) -> Prediction:
        """See ``Predictor.predict``."""
        beside = (STD_NAME, FOLLOWED_NAME) if outputs is None else outputs
        names = (OUTPUT_NAME, *(name for name in beside if self.contract.gives(name)))
        results = self.run(self.contract.checked(lst_kelvin, guides), names)
        return Prediction(results[OUTPUT_NAME], results.get(STD_NAME), results.get(FOLLOWED_NAME))

    @abstractmethod
    def run(
        self, inputs: dict[str, NDArray[np.float32]], outputs: tuple[str, ...]
    ) -> dict[str, NDArray[np.float32]]:
        """Runs the model on tensors that are checked; returns those outputs by name."""
