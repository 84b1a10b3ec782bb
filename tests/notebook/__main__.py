"""Run the notebook and keep in it what it shows: `python -m tests.notebook`."""

from __future__ import annotations

import nbformat

from tests.notebook.running import NOTEBOOK, run

nbformat.write(run(nbformat.read(NOTEBOOK, as_version=4)), NOTEBOOK)
