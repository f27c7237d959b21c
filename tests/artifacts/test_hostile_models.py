"""Contracts, cards, settings and model files that somebody damaged or made up."""

from __future__ import annotations

import json
import os
import zipfile

import pytest

from keras_lstsr.artifacts.contract import Contract
from keras_lstsr.artifacts.loading import load_keras_model
from keras_lstsr.artifacts.model_folder import ModelFolder, card_of
from keras_lstsr.artifacts.saved_model import load_saved_model
from keras_lstsr.config import ExperimentConfig
from keras_lstsr.errors import ConfigError, ModelError
from keras_lstsr.testing import hostile_models
from keras_lstsr.testing.robustness import ACCEPTED, Round, judged

CONTRACT = json.loads(
    Contract.of_model(
        model_version=1, scale_factor=4, minimum_size_pixels=1, provenance={}, guides=["ndvi"]
    ).to_json()
)


def with_tensor(side, number, **changed):
    tensors = [dict(tensor) for tensor in CONTRACT[side]]
    tensors[number].update(changed)
    return {side: tensors}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"inputs": []}, "inputs"),
        ({"outputs": []}, "outputs"),
        ({"inputs": CONTRACT["inputs"][:1] * 2}, "a name stands twice"),
        ({"inputs": CONTRACT["inputs"][1:]}, "the first is not lst_kelvin"),
        ({"inputs": "all"}, "inputs"),
        ({"inputs": CONTRACT["inputs"] * 100}, "inputs"),
        ({"scale_factor": 10**9}, "scale_factor"),
        ({"scale_factor": 0}, "scale_factor"),
        ({"scale_factor": "four"}, "scale_factor"),
        ({"minimum_size_pixels": 10**6}, "minimum_size_pixels"),
        ({"alignment_pixels": 10**6}, "alignment_pixels"),
        ({"margin_pixels": -1}, "margin_pixels"),
        ({"model_version": 2**64}, "model_version"),
        ({"contract_version": 9}, "contract_version"),
        ({"signature": "other"}, "signature"),
        ({"provenance": []}, "provenance"),
        (with_tensor("inputs", 0, valid_range=None), "lst_kelvin has no valid_range"),
        (with_tensor("inputs", 1, valid_range=None), "ndvi has no valid_range"),
        (with_tensor("inputs", 0, valid_range=[0, 70000]), "beyond"),
        (with_tensor("inputs", 0, valid_range=[400, 150]), "least"),
        (with_tensor("inputs", 1, valid_range=[-1, float("inf")]), "valid_range"),
        (with_tensor("inputs", 1, valid_range=[-1, float("nan")]), "valid_range"),
        (with_tensor("inputs", 0, shape=[None]), "is no \\[batch"),
        (with_tensor("inputs", 0, dtype="float64"), "dtype"),
        (with_tensor("outputs", 0, name="else"), "no lst_kelvin_fine"),
    ],
)
def test_a_contract_that_makes_no_sense_is_refused(tmp_path, changed, words):
    (tmp_path / "contract.json").write_text(json.dumps({**CONTRACT, **changed}))
    with pytest.raises(ModelError, match=rf"contract\.json.*{words}"):
        Contract.read(tmp_path)


@pytest.mark.parametrize("text", ["", "null", "[]", "[" * 10**6, '{"a":' * 10**5, "\x00", "1e999"])
def test_a_contract_or_card_that_is_no_json_is_refused(tmp_path, text):
    for name, read in (
        ("contract.json", lambda: Contract.read(tmp_path)),
        ("card.json", lambda: ModelFolder(tmp_path).read_card()),
        ("run.json", lambda: ModelFolder(tmp_path).read_run()),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ModelError, match=name):
            read()


def test_pipes_and_huge_files_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "contract.json")
    with pytest.raises(ModelError, match=r"contract\.json.*no regular file"):
        Contract.read(tmp_path)
    (tmp_path / "contract.json").unlink()
    with (tmp_path / "contract.json").open("wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(ModelError, match=r"contract\.json.*more than"):
        Contract.read(tmp_path)
    os.mkfifo(tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match=r"config\.yaml.*no regular file"):
        ExperimentConfig.from_yaml(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    "content",
    [
        {"name": 1},
        {"name": "m", "dataset": []},
        {"name": "m", "dataset": {"files": [1]}},
        {"name": "m", "dataset": {"files": {}}, "final": 3},
        {"name": "m", "data": {"x": "y"}},
        {"name": "m", "learnt_from": [1]},
    ],
)
def test_a_card_of_wrong_types_is_refused_or_left_out(tmp_path, content):
    (tmp_path / "card.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"card\.json"):
        ModelFolder(tmp_path).read_card()
    assert card_of({"model_card": content}) is None


def test_yaml_that_stands_for_far_more_than_it_is_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=r"config\.yaml.*alias \*a0: write the value out"):
        ExperimentConfig.from_yaml(path)
    path.write_text("name: &n [*n]")
    with pytest.raises(ConfigError, match=r"config\.yaml.*alias \*n"):
        ExperimentConfig.from_yaml(path)
    path.write_text("name: " + "[" * 20_000)
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        ExperimentConfig.from_yaml(path)
    path.write_text("name: !!python/object/apply:os.system ['touch ran']")
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        ExperimentConfig.from_yaml(path)


def archive(path, **files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in files.items():
            opened.writestr(name.replace("__", "."), content)
    return path


def test_what_is_no_keras_file_is_one_error(tmp_path):
    kind = {"module": "builtins", "class_name": "print", "config": {}, "registered_name": None}
    made = [
        archive(tmp_path / "bomb.keras", config__json=bytes(2**28)),
        archive(tmp_path / "empty.keras"),
        archive(tmp_path / "deep.keras", config__json="[" * 10**5, metadata__json="{}"),
        archive(tmp_path / "kind.keras", config__json=json.dumps(kind), metadata__json="{}"),
        archive(tmp_path / "outside.keras", **{"../evil": "x"}),
    ]
    (tmp_path / "text.keras").write_text("no archive")
    for path in (*made, tmp_path / "text.keras"):
        with pytest.raises(ModelError, match=rf"{path.name}.*Keras cannot read"):
            load_keras_model(path)
    assert not (tmp_path.parent / "evil").exists()


def test_code_in_a_keras_file_does_not_run(tmp_path):
    import keras

    flag = tmp_path / "ran"
    text = str(flag)
    layer = keras.layers.Lambda(lambda x: (__import__("pathlib").Path(text).touch(), x)[1], (1,))
    keras.Sequential([keras.Input((1,)), layer]).save(tmp_path / "code.keras")
    flag.unlink(missing_ok=True)
    with pytest.raises(ModelError, match=r"code\.keras.*Keras cannot read"):
        load_keras_model(tmp_path / "code.keras")
    assert not flag.exists()


@pytest.mark.parametrize("content", [b"", b"\xff" * 999, b"\x08\x01\x12\x00"])
def test_what_is_no_saved_model_is_one_error(tmp_path, content):
    (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(ModelError, match=r"cannot be loaded|was not exported by"):
        load_saved_model(tmp_path)


def test_a_small_part_of_the_benchmark(tmp_path):
    for trial in hostile_models.trials(Round(tmp_path, 7, 15)):
        verdict, text = judged(trial)
        assert verdict in ACCEPTED, f"{trial.name}: {verdict}: {text}"
