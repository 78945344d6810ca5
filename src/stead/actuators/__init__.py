"""Pieces of host state that can be read and set: one file each, found by entry point."""
