"""Builders for tests: rasters, scenes, samples and records whose values are known."""
