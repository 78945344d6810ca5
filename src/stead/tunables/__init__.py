"""Settings of the kernel and of units that are no process and no group: what each may be set to, and who else sets it."""
