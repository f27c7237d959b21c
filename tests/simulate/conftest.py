from __future__ import annotations

import pytest

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
