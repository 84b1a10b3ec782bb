"""Time pictures beside `import paddle`: `python -m tests.benchmarks.rendering`."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.commands import seconds

_ROUNDS = 7
_CHAIN = 10_000
_SKIPS = 0.3
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
_SAVE_CHAIN = """
import random, sys, paddle
paddle.enable_static()
draw = random.Random(0)
main, startup = paddle.static.Program(), paddle.static.Program()
with paddle.static.program_guard(main, startup):
    x = paddle.nn.Linear(64, 64)(paddle.static.data("x", [-1, 64], "float32"))
    made = [x]
    for _ in range(int(sys.argv[2])):
        skips = draw.random() < float(sys.argv[3])
        x = x + made[-min(len(made), draw.randint(2, 20))] if skips else draw.choice(
            (paddle.nn.functional.relu, paddle.tanh, paddle.nn.functional.sigmoid))(x)
        made.append(x)
path = f"{sys.argv[1]}/chain.json"
paddle.base.core.serialize_pir_program(main, path, True, False, True)
"""


def main() -> None:
    """Print a table of medians and of ratios to `import paddle`."""
    python = sys.executable
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-c", _SAVE, folder], check=True, capture_output=True)
        chain = [python, "-c", _SAVE_CHAIN, folder, str(_CHAIN), str(_SKIPS)]
        subprocess.run(chain, check=True, capture_output=True)
        files = [str(Path(folder) / f"{name}.json") for name in ("resnet152", "resnet50", "chain")]
        output = str(Path(folder) / "picture")
        tool = [python, "-m", "graphtool", "render"]
        commands = {
            "import paddle": [python, "-c", "import paddle"],
            "resnet152 and resnet50 to .svg": [*tool, *files[:2], "-o", f"{output}.svg"],
            "resnet152 and resnet50 to .png": [*tool, *files[:2], "-o", f"{output}.png"],
            f"{_CHAIN:,} operators to .svg": [*tool, files[2], "-o", f"{output}.svg"],
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
