"""An error names the file, the field, what was found, what was expected and what to do."""

from __future__ import annotations

import pickle

from keras_lstsr.errors import GridError, LstsrError, ProductError


def test_message_holds_every_part():
    error = ProductError(
        "the field is missing",
        path="a.hdf",
        field="LST_Day_1km",
        found="no such field",
        expected="a field of 1200 × 1200",
        action="Download the granule again.",
    )
    assert str(error) == (
        "a.hdf: LST_Day_1km: the field is missing; found no such field; "
        "expected a field of 1200 × 1200. Download the granule again."
    )


def test_short_message():
    assert str(LstsrError("nothing to do")) == "nothing to do."


def test_survives_pickling():
    error = ProductError("broken", path="a.hdf", found=3)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is ProductError
    assert str(again) == str(error)
    assert (again.path, again.found) == ("a.hdf", 3)


def test_an_error_is_restated_about_a_file():
    error = GridError("bad", field="transform", found=1, expected=2, action="Do it.")
    restated = error.restated("a.tif", kind=ProductError)
    assert type(restated) is ProductError
    assert str(restated) == "a.tif: transform: bad; found 1; expected 2. Do it."
    assert str(error.restated(None, "lst")) == "lst: bad; found 1; expected 2. Do it."
    assert type(error.restated(None)) is GridError
