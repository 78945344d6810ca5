"""The road that every change takes: observe, find, propose, decide, act, verify, record. Read `pipeline.py` first."""
