"""The process on every host: it runs the whole road alone, and never imports the hub's dependencies."""
