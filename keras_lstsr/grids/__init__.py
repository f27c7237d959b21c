"""The grids room; see docs/architecture.md."""
