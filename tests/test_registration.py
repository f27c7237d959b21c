"""`import keras_lstsr` is enough for Keras to read our files, whatever is imported first."""

from __future__ import annotations

import subprocess
import sys

import pytest

from keras_lstsr import registration

LOAD = """
import sys
model = keras.saving.load_model(sys.argv[1], compile=False)
assert sorted(model.output) == ["guide_followed", "lst_kelvin_fine", "lst_std_kelvin"]
"""


@pytest.fixture(scope="module")
def file(untrained_guided_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    untrained_guided_model.save(path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    "imports",
    [
        "import keras_lstsr; import keras",
        "import keras; import keras_lstsr",
        "import keras_lstsr; from keras.saving import load_model; import keras",
        "import keras_lstsr, tensorflow; import keras",
        "import keras_lstsr.models; import keras",
    ],
)
def test_keras_reads_our_files(file, imports):
    code = f"{imports}\n{LOAD}"
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_looking_for_keras_imports_nothing_and_other_modules_are_left_alone():
    code = (
        "import sys, keras_lstsr\n"
        "from importlib.util import find_spec\n"
        "assert find_spec('keras') is not None\n"
        "assert find_spec('keras_that_is_not_there') is None\n"
        "print(sorted({'keras', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_where_keras_is_not_installed_it_is_not_found(monkeypatch):
    monkeypatch.setattr(registration, "find_spec", lambda name: None)
    assert registration._AfterKeras().find_spec("keras") is None
