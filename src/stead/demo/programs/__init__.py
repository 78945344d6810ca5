"""The demo's own programs: plain stdlib scripts that stead runs as workers, and one that it does not."""
