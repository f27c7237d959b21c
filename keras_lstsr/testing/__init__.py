"""Builders for tests, those of this project and those of its users.

- ``rasters``: grids, rasters whose values are known at each coordinate, LST and guides, GeoTIFFs;
- ``samples``: scenes with guide and truth, and folders of pairs;
- ``records``: samples, and records folders without a Beam job;
- ``models``: tiny models, a predictor without a model, model folders;
- ``robustness``, ``damaged_granules``, ``hostile_rasters``: trials with hostile input;
- ``training``: a tiny experiment, changed settings, and a training that is killed.

Nothing in the package itself imports them.
"""
