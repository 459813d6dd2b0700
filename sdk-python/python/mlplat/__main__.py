"""`python -m mlplat`: the command line."""

from __future__ import annotations

import sys

from mlplat._cli import main

sys.exit(main())
