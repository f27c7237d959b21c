"""Fixtures of made pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from keras_lstsr.pairs.files import LoadedPair, Pair
from tests.pairs import made_pairs

PairMaker = Callable[..., Pair]


@pytest.fixture(scope="session")
def make_pair() -> PairMaker:
    """See ``made_pairs.make_pair``."""
    return made_pairs.make_pair


@pytest.fixture(scope="session")
def pairs_dir(make_pair: PairMaker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pairs in two groups, truths one pixel down and right of where they are; read only."""
    folder = tmp_path_factory.mktemp("pairs")
    for number in range(4):
        made = make_pair(f"{number:03d}", seed=number, off=(1, 1), noise_kelvin=0.3)
        made_pairs.write_pair(folder, made)
    groups = "".join(f"{number:03d},{number // 2}\n" for number in range(4))
    (folder / "pairs.csv").write_text("id,overlap_group\n" + groups)
    return folder


@pytest.fixture(scope="session")
def make_track(make_pair: PairMaker) -> Callable[[int], list[LoadedPair]]:
    """Pairs of one group that follow each other to the south and overlap by half."""

    def make(count: int) -> list[LoadedPair]:
        sources = []
        for number in range(count):
            pair = make_pair(str(number), seed=number, coarse_pixels=20)
            moved = {
                "lst": made_pairs.moved(pair.lst, rows=10 * number),
                "guide": made_pairs.moved(pair.guide, rows=40 * number),
                "truth": made_pairs.moved(pair.truth, rows=40 * number),
            }
            sources.append(LoadedPair(replace(pair, **moved)))
        return sources

    return make
