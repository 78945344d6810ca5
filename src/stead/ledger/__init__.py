"""The record on disk: a Merkle log in SQLite, its keys, proofs and witnesses."""
