"""Every value that flows through stead, frozen and typed. See `docs/architecture.md` for the road they take."""
