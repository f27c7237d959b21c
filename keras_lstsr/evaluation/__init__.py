"""The evaluation room; see docs/architecture.md."""
