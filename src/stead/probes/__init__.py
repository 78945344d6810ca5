"""What is read from a machine: one small module a source, each found by entry point. See `stead.protocols.Probe`."""
