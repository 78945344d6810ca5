"""stead looks after machines: it observes, finds, proposes, decides, acts reversibly, verifies and proves it."""

__version__ = "0.1.0"
