"""Detectors: each judges observations and says what is wrong. One small file a kind, found by entry point."""
