"""Models as directories: written by `log_model`, given back by `load_model`.

Invariant: a directory is a model when it has a manifest, `mlplat-model.json`, which names every other file with its size and
digest. Nothing of a model is executed before all of them are found right. docs/models.md describes the format.
"""

from __future__ import annotations
