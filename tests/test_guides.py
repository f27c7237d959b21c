from __future__ import annotations

import subprocess
import sys

import pytest

from keras_lstsr.config.guides import GUIDES, guide_named
from keras_lstsr.errors import ConfigError


def test_guides_are_found_by_the_name_they_bear():
    assert {"ndvi", "water", "elevation", "reference"} <= set(GUIDES)
    for name, guide in GUIDES.items():
        assert guide_named(name) is guide
        assert guide.name == name
        assert name.isidentifier()  # a tensor's name, and NAME in --guide NAME=FILE
        low, high = guide.valid_range
        assert low <= guide.stand_in <= high
        assert "NaN" in guide.when_missing and guide.hint.endswith(".")


def test_an_unknown_guide_is_answered_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"found 'evi'; expected ndvi, water, elevation"):
        guide_named("evi")


def test_units_and_ranges_of_the_guides():
    assert (GUIDES["ndvi"].units, GUIDES["ndvi"].valid_range) == ("1", (-1.0, 1.0))
    assert (GUIDES["water"].units, GUIDES["water"].valid_range) == ("1", (0.0, 1.0))
    assert (GUIDES["elevation"].units, GUIDES["elevation"].valid_range) == ("m", (-500.0, 9000.0))
    assert (GUIDES["reference"].units, GUIDES["reference"].valid_range) == ("kelvin", (-60.0, 60.0))


def test_knowing_the_guides_loads_no_learning_framework():
    code = (
        "import keras_lstsr.config.guides, sys; sys.exit(bool({'keras', 'tensorflow'} "
        "& set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
