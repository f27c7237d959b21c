"""The metrics room; see docs/architecture.md."""
