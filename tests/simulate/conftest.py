from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
from numpy.typing import NDArray

from keras_lstsr.simulate import SimulatedScene, simulate_scenes


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[SimulatedScene]:
    """Nine small scenes: all eight tiles, and the first tile on a second day."""
    folder = tmp_path_factory.mktemp("simulated")
    return simulate_scenes(folder, scenes=9, seed=11, size_pixels=96)


@pytest.fixture(scope="session")
def noiseless(tmp_path_factory: pytest.TempPathFactory) -> SimulatedScene:
    folder = tmp_path_factory.mktemp("noiseless")
    (scene,) = simulate_scenes(
        folder, scenes=1, seed=5, size_pixels=96, noise_kelvin=0, cloud_fraction=0.25
    )
    return scene


def _log_spectrum(
    values: NDArray[np.floating], bins: int = 30
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Wavenumber in cycles per pixel and mean power of a field without gaps, in log bins."""
    pixels = values.shape[0]
    window = np.hanning(pixels)
    detrended = (values - values.mean()) * window[:, None] * window[None, :]
    power = np.abs(scipy.fft.fft2(detrended, workers=1)) ** 2
    frequency = scipy.fft.fftfreq(pixels)
    wavenumber = np.hypot(frequency[:, None], frequency[None, :])
    edges = np.geomspace(1.0 / pixels, 0.5, bins + 1)
    index = np.digitize(wavenumber.ravel(), edges) - 1
    inside = (index >= 0) & (index < bins)
    count = np.bincount(index[inside], minlength=bins)
    total = np.bincount(index[inside], weights=power.ravel()[inside], minlength=bins)
    centre = np.bincount(index[inside], weights=wavenumber.ravel()[inside], minlength=bins)
    filled = count > 0
    return centre[filled] / count[filled], total[filled] / count[filled]


@pytest.fixture(scope="session")
def log_spectrum():
    return _log_spectrum
