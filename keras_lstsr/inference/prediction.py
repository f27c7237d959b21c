"""What a predictor is: one interface for Keras, a SavedModel, and a server over gRPC."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.contract import GUIDE_NAME, INPUT_NAME, OUTPUT_NAME, STD_NAME, Contract

Batch = NDArray[np.floating]


@dataclass(frozen=True)
class Prediction:
    """What a model says of a batch.

    Attributes:
        lst_kelvin: ``[B, f·h, f·w, 1]`` kelvin, NaN on the fine pixels of missing coarse ones.
        std_kelvin: Standard deviation of the error of its detail, likewise; None from a model
            that gives none.
    """

    lst_kelvin: NDArray[np.float32]
    std_kelvin: NDArray[np.float32] | None = None


@runtime_checkable
class Predictor(Protocol):
    """Turns coarse LST into fine LST.

    Attributes:
        contract: What the model takes, gives and comes from.
        scale_factor: Fine pixels along a coarse pixel's side.
        provenance: Where the model comes from.
        takes_guide: Whether the model takes NDVI beside LST.
    """

    @property
    def contract(self) -> Contract: ...  # noqa: D102

    @property
    def scale_factor(self) -> int: ...  # noqa: D102

    @property
    def provenance(self) -> Mapping[str, Any]: ...  # noqa: D102

    @property
    def takes_guide(self) -> bool: ...  # noqa: D102

    def predict(self, lst_kelvin: Batch, guide: Batch | None = None) -> NDArray[np.float32]:
        """Predicts a batch.

        Args:
            lst_kelvin: ``[B, h, w, 1]`` kelvin, NaN where missing.
            guide: NDVI ``[B, f·h, f·w, 1]``, NaN where missing. None lets a model that takes a
                guide work from LST alone.

        Returns:
            ``[B, f·h, f·w, 1]`` kelvin, NaN on the fine pixels of missing coarse ones.

        Raises:
            ModelError: If shape, type, size or units do not fit the contract, or the model takes
                no guide but one is given.
            ServingError: If a server cannot be reached or refuses.
        """
        ...

    def predict_with_std(self, lst_kelvin: Batch, guide: Batch | None = None) -> Prediction:
        """Predicts a batch and, where the model gives it, the standard deviation of its error.

        Arguments and errors as of ``predict``.
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

    @property
    def takes_guide(self) -> bool:
        """Whether the model takes NDVI beside LST."""
        return self.contract.guide is not None

    def predict(self, lst_kelvin: Batch, guide: Batch | None = None) -> NDArray[np.float32]:
        """See ``Predictor.predict``."""
        return self.run(self._checked(lst_kelvin, guide), (OUTPUT_NAME,))[OUTPUT_NAME]

    def predict_with_std(self, lst_kelvin: Batch, guide: Batch | None = None) -> Prediction:
        """See ``Predictor.predict_with_std``."""
        names = (OUTPUT_NAME, STD_NAME) if self.contract.gives_std else (OUTPUT_NAME,)
        results = self.run(self._checked(lst_kelvin, guide), names)
        return Prediction(results[OUTPUT_NAME], results.get(STD_NAME))

    def _checked(self, lst_kelvin: Batch, guide: Batch | None) -> dict[str, NDArray[np.float32]]:
        inputs = {INPUT_NAME: self.contract.checked_input(lst_kelvin)}
        ndvi = self.contract.checked_guide(guide, inputs[INPUT_NAME].shape)
        return inputs if ndvi is None else {**inputs, GUIDE_NAME: ndvi}

    @abstractmethod
    def run(
        self, inputs: dict[str, NDArray[np.float32]], outputs: tuple[str, ...]
    ) -> dict[str, NDArray[np.float32]]:
        """Runs the model on tensors that are checked; returns those outputs by name."""
