"""Draw README's picture: what its first command prints on a terminal of 132 columns, as SVG.

python examples/picture.py FILE.svg
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios

from rich.console import CONSOLE_SVG_FORMAT, Console
from rich.text import Text

COLUMNS = 132
COMMAND = [
    "suggest-pairs",
    "paddle.vision.models:resnet50",
    "paddle.vision.models:mobilenet_v1",
    "--input",
    "3,224,224",
]


def printed() -> str:
    """Run the command on a terminal, and return what it prints."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen(
        [sys.executable, "-m", "graphtool", *COMMAND],
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as process:
        os.close(theirs)
        text = bytearray()
        try:
            while part := os.read(ours, 65536):
                text += part
        except OSError:  # how Linux says that the other end was closed
            pass
    assert process.returncode == 0
    return text.decode().replace("\r\n", "\n")


def main(target: str) -> None:
    """Write the picture."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi(printed()), end="")
    # Fonts from the network are left out: the picture has to work without one.
    style = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    title = "graphtool suggest-pairs resnet50 mobilenet_v1"
    console.save_svg(target, title=title, code_format=style, unique_id="graphtool")


if __name__ == "__main__":
    main(sys.argv[1])
