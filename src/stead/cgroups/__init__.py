"""Control groups: where they are, who owns them, which knobs they have. What actuators and probes share; it decides nothing."""
