"""What a training starts from: the weights of another model folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from os import PathLike

import keras

from keras_lstsr.artifacts.initial import FILLED_IN, SCALING, initial_folder
from keras_lstsr.artifacts.loading import guides_of, load_keras_model, weights_sha256
from keras_lstsr.artifacts.model_folder import InitialWeights, ModelCard, ModelFolder
from keras_lstsr.config import ExperimentConfig, ModelConfig
from keras_lstsr.errors import ConfigError, ModelError
from keras_lstsr.training.tracking import flatten


@dataclass(frozen=True)
class InitialModel:
    """A model whose weights a training starts from.

    Attributes:
        folder: Where it lies.
    """

    folder: ModelFolder

    @classmethod
    def open(cls, source: str | PathLike[str]) -> InitialModel:
        """Opens a model folder, or shipped weights by their name; see ``initial_folder``."""
        return cls(initial_folder(source))

    @cached_property
    def model(self) -> keras.Model:
        """The model, float32."""
        return load_keras_model(self.folder.model)

    @cached_property
    def card(self) -> ModelCard | None:
        """Its card; None where it has none."""
        return self.folder.read_card()

    @cached_property
    def weights(self) -> InitialWeights:
        """Its name and the hash of its weights."""
        return InitialWeights(
            name=self.folder.path.resolve().name, weights_sha256=weights_sha256(self.model)
        )

    def adopted(self, config: ExperimentConfig) -> ExperimentConfig:
        """Returns the settings with the scaling of temperature that the weights were trained with.

        Raises:
            ConfigError: If the settings describe another network than the weights belong to.
        """
        own = self.folder.read_config()
        assert own is not None  # initial_folder has seen it
        expected, found = flatten(own.model), flatten(config.model)
        for name in sorted(expected.keys() | found.keys()):
            given = found.get(name)
            if name in FILLED_IN and (given is None or name not in SCALING):
                continue
            if given != expected.get(name):
                raise ConfigError(
                    "the settings describe another network than the weights belong to",
                    path=self.folder.path,
                    field=f"model.{name}",
                    found=repr(given),
                    expected=repr(expected.get(name)),
                    action="Leave the section model out of the settings: it comes with the weights "
                    "of --init. Or train anew, without --init.",
                )
        # A model sorts its inputs.
        takes, told = sorted(guides_of(self.model)), sorted(config.model.guides)
        ModelError.unless(
            takes == told,
            "guides",
            ", ".join(takes) or "none",
            ", ".join(told) or "none",
            "model.keras does not take what its settings say",
            path=self.folder.path,
        )
        if not isinstance(config.model, ModelConfig):
            return config
        scaling = {name: getattr(own.model, name) for name in SCALING}
        return config.model_copy(update={"model": config.model.model_copy(update=scaling)})
