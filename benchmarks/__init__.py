"""What stead costs, measured as CPU time beside other tools in the same run. `make bench` runs all of it."""
