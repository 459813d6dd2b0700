"""Importers: runs that MLflow or Weights & Biases have recorded, brought into mlplat.

Every source becomes the records of `_records`, and `_writer` alone writes. Nothing of the other tools needs to be
installed: their formats are read here. Only the command line imports this package.
"""
