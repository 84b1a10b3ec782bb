"""Run a guide as its reader does, in a process of its own, and compare or renew what it shows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from tests.guides.markdown import Guide
from tests.printed import as_stored

__all__ = ["EXAMPLES", "guides", "picture_words", "renew", "run"]

_ROOT = Path(__file__).parents[2]
EXAMPLES = _ROOT / "examples"
_SVG = "{http://www.w3.org/2000/svg}"


def guides() -> list[Path]:
    """Return the guides, in English."""
    return sorted(path for path in EXAMPLES.glob("*.md") if not path.stem.endswith(".zh-CN"))


def run(guide: Guide, folder: Path, script: int = 0) -> dict[int, str]:
    """Return what the blocks of a script show when they run in `folder`, by the line of each.

    Raises AssertionError, with the end of what was printed, where a block fails.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.guides.interpreter", str(guide.path), str(script)],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": f"{_ROOT}:{EXAMPLES}",
            "GLOG_minloglevel": "2",
            "COLUMNS": "120",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def picture_words(picture: Path) -> Counter[str]:
    """Return all that is written in an SVG; where it stands depends on the machine's fonts."""
    return Counter(
        "".join(text.itertext()) for text in ElementTree.parse(picture).iter(f"{_SVG}text")
    )


def renew(guide: Guide, shown: dict[int, str], folder: Path) -> None:
    """Write what the blocks show into a guide and its translation, and keep the pictures drawn."""
    text = guide.text
    for block in reversed(guide.blocks):
        if block.line in shown and not as_stored(block.text, shown[block.line]):
            text = text[: block.start] + shown[block.line] + text[block.end :]
    guide.path.write_text(text, encoding="utf-8")
    if guide.translation is not None:
        _renew_translation(Guide(guide.path), Guide(guide.translation))
    for picture in guide.pictures:
        if (folder / picture).exists():
            shutil.copy(folder / picture, EXAMPLES / picture)


def _renew_translation(guide: Guide, translation: Guide) -> None:
    if len(guide.blocks) != len(translation.blocks):
        raise SystemExit(f"{translation.path.name} has other blocks than {guide.path.name}")
    text = translation.text
    pairs = list(zip(guide.blocks, translation.blocks, strict=True))
    for block, translated in reversed(pairs):
        text = text[: translated.start] + block.text + text[translated.end :]
    translation.path.write_text(text, encoding="utf-8")
