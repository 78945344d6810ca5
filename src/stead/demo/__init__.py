"""`stead demo`: a small real workload, three real faults, and the whole road healing each of them before one's eyes."""
