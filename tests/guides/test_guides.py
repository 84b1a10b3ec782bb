"""Each guide: its blocks run and show what it says; both languages say the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guides.markdown import Guide
from tests.guides.running import EXAMPLES, guides, picture_words, run
from tests.printed import as_stored

_SCRIPTS = [
    pytest.param(path, script, id=f"{path.stem}-{script}" if script else path.stem)
    for path in guides()
    for script in range(len(Guide(path).scripts))
]
_GUIDES = [pytest.param(path, id=path.stem) for path in guides()]
_TRANSLATED = [
    pytest.param(path, id=path.stem) for path in guides() if Guide(path).translation is not None
]


@pytest.mark.pir
@pytest.mark.parametrize(("path", "script"), _SCRIPTS)
@pytest.mark.nightly
def test_what_a_guide_shows_is_what_its_blocks_print(
    path: Path, script: int, tmp_path: Path
) -> None:
    guide = Guide(path)
    shown = run(guide, tmp_path, script)

    for block in guide.blocks:
        if block.line in shown:
            assert as_stored(block.text, shown[block.line]), (
                f"{path.name}:{block.line} prints\n{shown[block.line]}"
            )
    for picture in guide.pictures:
        if (tmp_path / picture).exists():
            assert picture_words(tmp_path / picture) == picture_words(EXAMPLES / picture)


@pytest.mark.parametrize("path", _GUIDES)
def test_what_a_guide_points_to_is_there(path: Path) -> None:
    assert Guide(path).broken_links == []


@pytest.mark.parametrize("path", _TRANSLATED)
def test_both_languages_have_the_same_blocks_and_figures(path: Path) -> None:
    english = Guide(path)

    assert english.translation is not None
    assert Guide(english.translation).shared == english.shared
