"""The inference room; see docs/architecture.md."""
