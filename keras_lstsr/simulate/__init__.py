"""Physically plausible scenes with known truth, written as real HDF4-EOS and GeoTIFF files."""

from keras_lstsr.simulate.scenes import (
    DEFAULT_NOISE_KELVIN,
    SimulatedScene,
    simulate_scenes,
)

__all__ = ["DEFAULT_NOISE_KELVIN", "SimulatedScene", "simulate_scenes"]
