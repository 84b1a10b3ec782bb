"""Time whole commands beside `import paddle`: `python -m tests.benchmarks.commands`."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

_ROUNDS = 7
_SAVE = """
import sys, paddle
paddle.enable_static()
for name in ("resnet152", "resnet50"):
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard():
        net = getattr(paddle.vision.models, name)()
        net.eval()
        net(paddle.static.data("image", [-1, 3, 224, 224], "float32"))
    path = f"{sys.argv[1]}/{name}.json"
    paddle.base.core.serialize_pir_program(main, path, True, False, True)
"""


def seconds(command: Sequence[str]) -> float:
    """Return the wall time of one run of a command."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Print a table of medians and of ratios to `import paddle`."""
    python = sys.executable
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-c", _SAVE, folder], check=True, capture_output=True)
        models = [str(Path(folder) / f"{name}.json") for name in ("resnet152", "resnet50")]
        tool = [python, "-m", "graphtool"]
        commands = {
            "import paddle": [python, "-c", "import paddle"],
            "graphtool --help": [*tool, "--help"],
            "suggest-pairs resnet152.json resnet50.json": [*tool, "suggest-pairs", *models],
            "suggest-pairs … --json": [*tool, "suggest-pairs", *models, "--json"],
            "inspect resnet152.json": [*tool, "inspect", models[0]],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(_ROUNDS):
            for name, command in commands.items():
                times[name].append(seconds(command))
    medians = {name: statistics.median(measured) for name, measured in times.items()}
    floor = medians["import paddle"]
    for name, median in medians.items():
        print(f"{name:45} {median:6.3f} s  {median / floor:5.2f} × import paddle")


if __name__ == "__main__":
    main()
