"""Fixtures of made pairs."""

from tests.pairs.conftest import make_pair, pairs_dir

__all__ = ["make_pair", "pairs_dir"]
