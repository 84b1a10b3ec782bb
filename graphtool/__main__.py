"""`python -m graphtool`."""

import sys

from graphtool.cli import main

sys.exit(main())
