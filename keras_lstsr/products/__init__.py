"""The products room; see docs/architecture.md."""
