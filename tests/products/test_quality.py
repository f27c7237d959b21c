"""QC bit fields and policies, against the user guides' tables bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_lstsr.errors import ConfigError
from keras_lstsr.products import quality
from keras_lstsr.products.quality import REASONS, Rejection


def mod11_reason(qc: int, policy: str) -> str:
    """The policy in words, for one QC number."""
    bits = f"{qc:08b}"
    lst_error, mandatory = bits[0:2], bits[6:8]
    if mandatory == "10":
        return "cloud"
    if mandatory == "11":
        return "not_produced"
    if mandatory == "00" or policy == "lenient":
        return "valid"
    if policy == "default" and lst_error in ("00", "01"):
        return "valid"
    return "quality"


@pytest.mark.parametrize("policy", quality.POLICIES)
def test_every_mod11_qc_number(policy):
    table = quality.mod11_rejection_table(policy)
    assert [REASONS[int(code)] for code in table] == [mod11_reason(qc, policy) for qc in range(256)]


def mod09gq_reason(qc: int, policy: str, band: int) -> str:
    bits = f"{qc:016b}"[::-1]
    modland = bits[1] + bits[0]
    start = 4 * band
    band_quality = bits[start : start + 4][::-1]
    if modland == "10":
        return "cloud"
    if modland == "11":
        return "not_produced"
    accepted = {
        "strict": modland == "00" and band_quality == "0000",
        "default": band_quality in ("0000", "0111", "1000", "1100"),
        "lenient": True,
    }
    return "valid" if accepted[policy] else "quality"


@pytest.mark.parametrize("policy", quality.POLICIES)
@pytest.mark.parametrize(("band", "field"), [(1, quality.RED_QUALITY), (2, quality.NIR_QUALITY)])
def test_every_mod09gq_qc_number(policy, band, field):
    table = quality.mod09gq_rejection_table(policy, field)
    expected = [mod09gq_reason(qc, policy, band) for qc in range(65536)]
    assert [REASONS[int(code)] for code in table] == expected


def test_policies_take_ever_more():
    taken = [quality.mod11_rejection_table(policy) == 0 for policy in quality.POLICIES]
    assert taken[0].sum() < taken[1].sum() < taken[2].sum()
    assert not (taken[0] & ~taken[1]).any() and not (taken[1] & ~taken[2]).any()


def test_tables_can_not_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        quality.mod11_rejection_table("default")[0] = 1


def test_unknown_policy_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"'best'.*strict, default, lenient"):
        quality.mod11_rejection_table("best")


codes = st.lists(st.integers(0, len(REASONS) - 1), min_size=3, max_size=3)


@given(st.lists(codes, min_size=1, max_size=4))
def test_first_reason_is_the_smallest_that_rejects(layers):
    combined = quality.first_reason([np.array(layer, np.uint8) for layer in layers])
    for pixel, code in enumerate(combined):
        reasons = [layer[pixel] for layer in layers if layer[pixel]]
        assert code == min(reasons, default=0)


def test_reasons_are_counted_without_the_valid_ones():
    array = np.array([[0, 1, 1], [2, 5, 0]], np.uint8)
    assert quality.count_reasons(array) == {"cloud": 2, "not_produced": 1, "quality": 1}


def test_reason_codes_and_names_agree():
    assert REASONS == {
        0: "valid",
        1: "cloud",
        2: "not_produced",
        3: "fill",
        4: "out_of_range",
        5: "quality",
        6: "undefined",
    }
    assert Rejection.CLOUD == 1


def test_quality_table_decodes_and_counts():
    # 00000000 good; 01000001 other quality, error <= 2 K; 00000010 cloud
    qc = np.array([[0, 0b01000001, 0b01000001], [2, 2, 2]], np.uint8)
    rows = {
        (row["field"], row["code"]): row["pixels"]
        for row in quality.quality_table(qc, quality.MOD11_QC)
    }
    assert rows["mandatory QA", "00"] == 1
    assert rows["mandatory QA", "01"] == 2
    assert rows["mandatory QA", "10"] == 3
    assert rows["LST error", "01"] == 2
    # Clouded pixels have no LST error: their zero bits do not count as "<= 1 K".
    assert rows["LST error", "00"] == 1


def test_quality_table_shows_undefined_codes_that_occur():
    qc = np.array([[0b0010_0000]], np.uint16)  # band 1 quality 0010 is in no table
    rows = quality.quality_table(qc, quality.MOD09GQ_QC)
    found = [row for row in rows if (row["field"], row["code"]) == ("band 1 (red) quality", "0010")]
    assert [(row["meaning"], row["pixels"]) for row in found] == [("undefined", 1)]
