"""One answer to where the parameters of a saved model are."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphtool.readers.files import find_parameters


def held(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("model", "parameters"),
    [("net.json", "net.pdiparams"), ("net.pdmodel", "__params__"), ("__model__", "params")],
)
def test_a_combined_file_is_found_from_the_model_and_from_its_folder(
    tmp_path: Path, model: str, parameters: str
) -> None:
    held(tmp_path, model, parameters)

    assert find_parameters(tmp_path / model) == tmp_path / parameters
    assert find_parameters(tmp_path) == tmp_path / parameters


def test_a_file_for_each_parameter_makes_the_folder_unless_one_is_missing(tmp_path: Path) -> None:
    model = held(tmp_path, "__model__", "fc_0.w_0", "fc_0.b_0") / "__model__"

    assert find_parameters(model, ["fc_0.w_0", "fc_0.b_0"]) == tmp_path
    assert find_parameters(model, ["fc_0.w_0", "fc_1.w_0"]) is None
    assert find_parameters(model) is None


def test_a_state_dict_is_taken_where_it_is_asked_for(tmp_path: Path) -> None:
    model = held(tmp_path, "net.json", "net.pdparams") / "net.json"

    assert find_parameters(model) is None
    found = find_parameters(model, endings=(".pdiparams", ".pdparams"))
    assert found == tmp_path / "net.pdparams"
