"""What stead may do to files: take them out of the way, put them back exactly, compress them, and remove them after a time.

Shared by the actuator `files` and the probe that plans. Nothing here follows a link: every folder on the way is opened by
itself, and a file is taken by one rename, looked at, and put back if it is not the one that was meant.
"""
