import json
import os
import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from graphtool.diagnostics import Diagnostic, ReadError
from graphtool.readers.files import read_file
from graphtool.readers.program_desc import program_message
from graphtool.readers.tensor_files import parameter_file_facts, read_tensors
from graphtool.readers.weights import read_weights
from graphtool.sources import read

FIXTURES = Path(__file__).parent.parent / "fixtures"
CNN_JSON = (FIXTURES / "3.3.1" / "cnn.json").read_bytes()
CNN_PDMODEL = (FIXTURES / "2.6.2" / "cnn.pdmodel").read_bytes()


def problem(path: Path) -> Diagnostic:
    with pytest.raises(ReadError) as caught:
        read_file(path)
    (found,) = caught.value.report
    return found


def damage(path: Path) -> str:
    found = problem(path)
    assert (found.code, found.slug) == ("GT004", "damaged-model")
    return found.message


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def with_version(version: object) -> bytes:
    document = json.loads(CNN_JSON)
    document["base_code"]["version"] = version
    return json.dumps(document).encode()


def test_a_folder_is_read_by_its_inference_json(tmp_path: Path) -> None:
    written(tmp_path, "inference.json", CNN_JSON)
    written(tmp_path, "inference.yml", b"Global: {}")
    written(tmp_path, "older.pdmodel", CNN_PDMODEL)
    assert read_file(tmp_path).source == str(tmp_path / "inference.json")


def test_configurations_and_tokenizers_beside_a_model_are_no_candidates(tmp_path: Path) -> None:
    written(tmp_path, "model.json", CNN_JSON)
    written(tmp_path, "config.json", b'{"architectures": ["Bert"], "base_code": 1}')
    written(tmp_path, "tokenizer.json", b'{"version": "1.0"}')
    written(tmp_path, "empty.json", b"")
    assert len(read_file(tmp_path).operators) == 42


def test_a_folder_with_an_old_model_file_is_read() -> None:
    assert len(read_file(FIXTURES / "2.6.2" / "old").operators) == 21


def test_a_program_with_an_unknown_ending_is_read_by_its_content(tmp_path: Path) -> None:
    assert len(read_file(written(tmp_path, "a.program", CNN_JSON)).operators) == 42
    assert len(read_file(written(tmp_path, "b.program", CNN_PDMODEL)).operators) == 21


def test_several_models_in_a_folder_are_listed() -> None:
    found = problem(FIXTURES / "2.6.2")
    assert found.code == "GT011"
    assert found.message.endswith("holds 5 saved programs")
    names = [Path(place.program or "").name for place in found.where]
    assert names == [
        f"{name}.pdmodel" for name in ("cnn", "control", "control_training", "encoder", "training")
    ]


def test_a_folder_without_a_model_says_what_it_holds(tmp_path: Path) -> None:
    written(tmp_path, "config.json", b"{}")
    written(tmp_path, "model.pdparams", b"\x80\x02}.")
    found = problem(tmp_path)
    assert (found.code, found.slug) == ("GT011", "no-single-model")
    assert found.notes == ("it holds `config.json`, `model.pdparams`",)


def test_an_empty_folder_is_said_to_be_empty(tmp_path: Path) -> None:
    assert problem(tmp_path).notes == ("it is empty",)


def test_a_missing_path_names_what_is_like_it(tmp_path: Path) -> None:
    written(tmp_path, "resnet50.json", CNN_JSON)
    found = problem(tmp_path / "resnet5.json")
    assert found.code == "GT001"
    assert found.notes == (f"there is `{tmp_path / 'resnet50.json'}`",)


@pytest.mark.parametrize("ending", [".json", ".pdmodel"])
def test_the_prefix_that_paddle_saved_to_is_a_model(tmp_path: Path, ending: str) -> None:
    folder = FIXTURES / ("3.3.1" if ending == ".json" else "2.6.2")
    file = tmp_path / f"net.v2{ending}"
    file.write_bytes((folder / f"cnn{ending}").read_bytes())

    graph = read_file(tmp_path / "net.v2")

    assert (graph.source, len(graph.operators)) == (str(file), len(read_file(file).operators))
    assert problem(tmp_path / "net").code == "GT001"


@pytest.mark.parametrize("name", ["no/such/folder/x.json", "\0", "cnn.json/x"])
def test_a_path_that_cannot_exist_is_missing(name: str) -> None:
    assert problem(FIXTURES / "3.3.1" / name).code == "GT001"


def test_a_name_too_long_for_the_system_is_unreadable(tmp_path: Path) -> None:
    assert problem(tmp_path / ("x" * 5000)).code == "GT010"


@pytest.mark.parametrize("name", ["m.json", "m.pdmodel", "__model__", "m"])
def test_an_empty_file_is_said_to_be_empty(tmp_path: Path, name: str) -> None:
    assert damage(written(tmp_path, name, b"")) == "the file is empty"


@pytest.mark.parametrize("kept", [1, 100, 8000, len(CNN_JSON) - 1])
def test_json_that_was_cut_off_is_no_json(tmp_path: Path, kept: int) -> None:
    message = damage(written(tmp_path, "m.json", CNN_JSON[:kept]))
    assert message.startswith("the text is not JSON: ")


@pytest.mark.parametrize("kept", [1, 100, 8000, len(CNN_PDMODEL) - 1])
def test_a_pdmodel_that_was_cut_off_is_no_program(tmp_path: Path, kept: int) -> None:
    message = damage(written(tmp_path, "m.pdmodel", CNN_PDMODEL[:kept]))
    assert message.startswith("the file is not a Paddle program: ")


@pytest.mark.parametrize(
    "text", ["[]", "1", "null", '{"a": 1}', '{"base_code": {"magic": "pir2"}, "program": {}}']
)
def test_json_of_something_else_is_no_program(tmp_path: Path, text: str) -> None:
    assert "not a Paddle program" in damage(written(tmp_path, "m.json", text.encode()))


@pytest.mark.parametrize("seed", range(40))
def test_random_bytes_as_a_pdmodel_are_no_program(tmp_path: Path, seed: int) -> None:
    data = random.Random(seed).randbytes(seed * seed + 1)
    assert problem(written(tmp_path, "m.pdmodel", data)).code in ("GT004", "GT013")


@pytest.mark.parametrize("version", [5, 99])
def test_a_version_never_seen_is_not_read(tmp_path: Path, version: int) -> None:
    found = problem(written(tmp_path, "m.json", with_version(version)))
    assert found.code == "GT005"
    assert str(version) in found.message


@pytest.mark.parametrize("version", [-1, "x", None, True])
def test_a_version_that_is_no_number_is_not_taken_for_a_newer_one(
    tmp_path: Path, version: object
) -> None:
    found = problem(written(tmp_path, "m.json", with_version(version)))
    assert found.code == "GT004"
    assert f"`{json.dumps(version)}`" in found.message
    assert found.help is None


def test_an_onnx_file_is_named_and_converted_by_the_help(tmp_path: Path) -> None:
    model = b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:\x02\x12\x00"
    found = problem(written(tmp_path, "net.pdmodel", model))
    assert found.code == "GT013"
    assert found.message == "the file is an ONNX model, not a program"
    assert found.help is not None
    assert found.help.startswith("x2paddle --framework=onnx --model=")
    assert problem(written(tmp_path, "net.onnx", b"anything")).code == "GT013"


def test_a_parameter_file_names_the_model_of_its_name(tmp_path: Path) -> None:
    data = (FIXTURES / "3.3.1" / "control.pdiparams").read_bytes()
    written(tmp_path, "a.json", CNN_JSON)
    written(tmp_path, "net.pdmodel", CNN_PDMODEL)
    found = problem(written(tmp_path, "net.pdiparams", data))
    assert found.code == "GT013"
    assert found.message == "the file holds parameters, not a program"
    assert found.notes == (f"the program beside it is `{tmp_path / 'net.pdmodel'}`",)


def test_a_parameter_file_under_a_models_ending_does_not_name_itself(tmp_path: Path) -> None:
    data = (FIXTURES / "3.3.1" / "control.pdiparams").read_bytes()
    parameters = written(tmp_path, "net.pdmodel", data)
    assert problem(parameters).notes == ()
    written(tmp_path, "other.json", CNN_JSON)
    assert problem(parameters).notes == (f"the program beside it is `{tmp_path / 'other.json'}`",)
    written(tmp_path, "third.json", CNN_JSON)
    assert problem(parameters).notes == ()


def test_a_pipe_that_the_shell_hands_over_is_read_once_and_whole() -> None:
    control = FIXTURES / "3.3.1" / "control.json"
    script = (
        "import sys; from pathlib import Path; from graphtool.readers.files import read_file\n"
        "print(len(read_file(Path(sys.argv[1])).operators))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "/dev/fd/0"],
        input=control.read_bytes(),
        capture_output=True,
        check=True,
    )
    assert int(done.stdout) == len(read_file(control).operators) == 36


def test_a_named_pipe_and_a_device_are_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.json")
    found = problem(tmp_path / "fifo.json")
    assert (found.code, found.slug) == ("GT010", "unreadable")
    assert found.message == f"`{tmp_path / 'fifo.json'}` cannot be read: it is a pipe, not a file"
    assert found.help == f"ls -ld {tmp_path / 'fifo.json'}"
    assert problem(Path("/dev/zero")).message.endswith("it is a device, not a file")


def test_parameters_that_are_a_named_pipe_are_refused_instead_of_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "net.pdiparams"
    os.mkfifo(pipe)
    graph = read(FIXTURES / "3.3.1" / "cnn.json")
    for read_them in (parameter_file_facts, read_tensors, lambda at: read_weights(at, graph)):
        with pytest.raises(ReadError, match=rf"GT010\].*`{pipe}` .* is a pipe, not a file"):
            read_them(pipe)


def test_an_empty_folder_does_not_hide_the_model_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    for ending in (".json", ".pdiparams"):
        source = FIXTURES / "3.3.1" / f"control{ending}"
        (tmp_path / f"net{ending}").write_bytes(source.read_bytes())

    graph = read(tmp_path / "net")

    assert graph.source == str(tmp_path / "net.json")
    assert len(read_weights(tmp_path / "net", graph).tensors) == 2
    (tmp_path / "net" / "notes.txt").touch()
    assert problem(tmp_path / "net").code == "GT011"


def test_parameters_without_an_ending_are_known_by_their_content(tmp_path: Path) -> None:
    data = (FIXTURES / "3.3.1" / "control.pdiparams").read_bytes()
    assert problem(written(tmp_path, "__params__", data)).code == "GT013"


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = f"cos\nsystem\n(S'touch {mark}'\ntR.".encode()
    for name in ("a.pdparams", "a.pdmodel", "a.json", "a"):
        problem(written(tmp_path, name, b"\x80\x02" + code))
    assert not mark.exists()


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 200_000,
        b'{"base_code":{"magic":"pir","version":4},"program":' + b'{"a":' * 200_000,
    ],
)
def test_huge_nesting_ends_in_a_diagnostic(tmp_path: Path, text: bytes) -> None:
    assert damage(written(tmp_path, "m.json", text)) == "the file is nested too deeply"


def test_deeply_nested_regions_end_in_a_diagnostic(tmp_path: Path) -> None:
    text = b'{"base_code":{"magic":"pir","version":4},"program":{"regions":[{"blocks":['
    inner = b'{"#":"b","args":[],"ops":[{"#":"1.if","A":[],"I":[],"O":[],"regions":[{"blocks":['
    text += inner * 700 + b'{"#":"b","args":[],"ops":[]}' + b"]}]}]}" * 700 + b"]}]}}"
    assert damage(written(tmp_path, "m.json", text)) == "the file is nested too deeply"


def test_deeply_nested_blocks_end_in_a_diagnostic(tmp_path: Path) -> None:
    program, depth = program_message()(), sys.getrecursionlimit()
    for index in range(depth):
        block = program.blocks.add(idx=index, parent_idx=index - 1)
        block.ops.add(type="while").attrs.add(name="sub_block", type=8, block_idx=index + 1)
    program.blocks.add(idx=depth, parent_idx=depth - 1)
    model = written(tmp_path, "m.pdmodel", program.SerializeToString())
    assert damage(model) == "the file is nested too deeply"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_folder_without_permission_is_unreadable(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    script = (
        "import os, sys; from pathlib import Path\n"
        "from graphtool.diagnostics import ReadError\n"
        "from graphtool.readers import files\n"
        "os.setuid(65534)\n"
        "try: files.read_file(Path(sys.argv[1]))\n"
        "except ReadError as error: print(error.report.errors[0].code)\n"
    )
    tmp_path.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", script, str(closed)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "GT010"


def test_a_tensor_header_is_not_mistaken_for_a_program(tmp_path: Path) -> None:
    header = struct.pack("<IQI", 0, 0, 0) + b"\x08\x05\x10\x01"
    assert problem(written(tmp_path, "conv2d_0.w_0", header)).code == "GT013"
