import json
import os
import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from graphtool.diagnostics import Diagnostic, ReadError
from graphtool.readers.files import find_parameters, read_file
from graphtool.readers.program_desc import program_message
from graphtool.readers.weights import read_weights
from graphtool.sources import read

FIXTURES = Path(__file__).parent.parent / "fixtures"
CNN_JSON = (FIXTURES / "3.3.1" / "cnn.json").read_bytes()
CNN_PDMODEL = (FIXTURES / "2.6.2" / "cnn.pdmodel").read_bytes()
CONTROL_PARAMETERS = (FIXTURES / "3.3.1" / "control.pdiparams").read_bytes()


def problem(path: Path) -> Diagnostic:
    with pytest.raises(ReadError) as caught:
        read_file(path)
    (found,) = caught.value.report
    return found


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def with_version(version: object) -> bytes:
    document = json.loads(CNN_JSON)
    document["base_code"]["version"] = version
    return json.dumps(document).encode()


def nested_regions(depth: int) -> bytes:
    inner = b'{"#":"b","args":[],"ops":[{"#":"1.if","A":[],"I":[],"O":[],"regions":[{"blocks":['
    block = inner * depth + b'{"#":"b","args":[],"ops":[]}' + b"]}]}]}" * depth
    return _PIR + b'{"regions":[{"blocks":[' + block + b"]}]}}"


def nested_blocks(depth: int) -> bytes:
    program = program_message()()
    for index in range(depth):
        block = program.blocks.add(idx=index, parent_idx=index - 1)
        block.ops.add(type="while").attrs.add(name="sub_block", type=8, block_idx=index + 1)
    program.blocks.add(idx=depth, parent_idx=depth - 1)
    return program.SerializeToString()


_PIR = b'{"base_code":{"magic":"pir","version":4},"program":'
_EMPTY, _NO_JSON = "the file is empty", "the text is not JSON: "
_NO_PROGRAM, _DEEP = "the file is not a Paddle program: ", "the file is nested too deeply"
_PARAMETERS = "the file holds parameters, not a program"
_TENSOR = struct.pack("<IQI", 0, 0, 0) + b"\x08\x05\x10\x01"
_JSON_OF_OTHERS = (b"[]", b"1", b"null", b'{"a": 1}', b'{"base_code": {"magic": "pir2"}}')
REFUSED = [
    *((name, b"", "GT004", _EMPTY) for name in ("m.json", "m.pdmodel", "__model__", "m")),
    *(("m.json", CNN_JSON[:n], "GT004", _NO_JSON) for n in (1, 100, 8000, len(CNN_JSON) - 1)),
    *(("m.pdmodel", CNN_PDMODEL[:n], "GT004", _NO_PROGRAM) for n in (1, 100, 8000)),
    ("m.pdmodel", CNN_PDMODEL[:-1], "GT004", _NO_PROGRAM),
    *(("m.json", text, "GT004", "not a Paddle program") for text in _JSON_OF_OTHERS),
    *(("m.json", with_version(n), "GT005", f"PIR format version {n}") for n in (5, 99)),
    *(("m.json", with_version(x), "GT004", f"`{json.dumps(x)}`") for x in (-1, "x", None, True)),
    ("net.onnx", b"anything", "GT013", "the file is an ONNX model"),
    ("conv2d_0.w_0", _TENSOR, "GT013", _PARAMETERS),
    ("__params__", CONTROL_PARAMETERS, "GT013", _PARAMETERS),
    ("m.json", b"[" * 200_000, "GT004", _DEEP),
    ("m.json", _PIR + b'{"a":' * 200_000, "GT004", _DEEP),
    ("m.json", nested_regions(700), "GT004", _DEEP),
    ("m.pdmodel", nested_blocks(sys.getrecursionlimit()), "GT004", _DEEP),
]


@pytest.mark.parametrize(("name", "content", "code", "words"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_whole_program_is_refused_by_what_it_is(
    tmp_path: Path, name: str, content: bytes, code: str, words: str
) -> None:
    found = problem(written(tmp_path, name, content))
    assert found.code == code
    assert words in found.message


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
    assert problem(tmp_path).notes == ("it is empty",)
    written(tmp_path, "config.json", b"{}")
    written(tmp_path, "model.pdparams", b"\x80\x02}.")
    found = problem(tmp_path)
    assert (found.code, found.slug) == ("GT011", "no-single-model")
    assert found.notes == ("it holds `config.json`, `model.pdparams`",)


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


@pytest.mark.parametrize("seed", range(40))
def test_random_bytes_as_a_pdmodel_are_no_program(tmp_path: Path, seed: int) -> None:
    data = random.Random(seed).randbytes(seed * seed + 1)
    assert problem(written(tmp_path, "m.pdmodel", data)).code in ("GT004", "GT013")


def test_an_onnx_file_is_named_and_converted_by_the_help(tmp_path: Path) -> None:
    model = b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:\x02\x12\x00"
    found = problem(written(tmp_path, "net.pdmodel", model))
    assert found.code == "GT013"
    assert found.message == "the file is an ONNX model, not a program"
    assert found.help is not None
    assert found.help.startswith("x2paddle --framework=onnx --model=")


def test_a_parameter_file_names_the_model_of_its_name(tmp_path: Path) -> None:
    written(tmp_path, "a.json", CNN_JSON)
    written(tmp_path, "net.pdmodel", CNN_PDMODEL)
    found = problem(written(tmp_path, "net.pdiparams", CONTROL_PARAMETERS))
    assert found.code == "GT013"
    assert found.message == "the file holds parameters, not a program"
    assert found.notes == (f"the program beside it is `{tmp_path / 'net.pdmodel'}`",)


def test_a_parameter_file_under_a_models_ending_does_not_name_itself(tmp_path: Path) -> None:
    parameters = written(tmp_path, "net.pdmodel", CONTROL_PARAMETERS)
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
