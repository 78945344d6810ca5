"""Fuzz targets of everything that reads bytes from strangers: `python -m tests.fuzz note` where atheris is installed."""
