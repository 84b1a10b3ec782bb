"""Run guides and write into them what they show: `python -m tests.guides [GUIDE ...]`.

GUIDE is a guide's name (`tutorial`); all unless given. A `…` in a guide that stands for what was
printed stays. The translation gets the same blocks. What the troubleshooting guide takes from the
rules' docstrings is renewed first.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.guides import troubleshooting
from tests.guides.markdown import Guide
from tests.guides.running import EXAMPLES, guides, renew, run


def _main() -> None:
    wanted = [EXAMPLES / f"{name}.md" for name in sys.argv[1:]] or guides()
    for path in wanted:
        print(path.name, flush=True)
        if path == troubleshooting.PAGE:
            troubleshooting.renew()
        for script in range(len(Guide(path).scripts)):
            with tempfile.TemporaryDirectory() as folder:
                guide = Guide(path)
                renew(guide, run(guide, Path(folder), script), Path(folder))


if __name__ == "__main__":
    _main()
