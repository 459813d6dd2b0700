"""What runs can show: figures, images, tables, texts, sound, confusion matrices, histograms.

Invariant: every function here makes the files and names them, and knows nothing of how they travel. A wrong argument is an
error before anything is made.

    figures/<key>.png                  a figure without a step (or the path that was given)
    images/<key>/<step>_<ms>_<n>.png   images and figures of a step
    tables/<key>.json                  tables; more of long and shared ones in tables/<key>.json.parts/
    html/<key>.html, audio/<key>/…     pages, sound
    histograms/<key>/<step>_<ms>.json.gz   up to 64 histograms each
"""

from __future__ import annotations
