"""What the scheduler may be told of a process: its levers, its session and its family, each read, set and given back exactly."""
