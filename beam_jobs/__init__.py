"""Apache Beam jobs: rasters in, TFRecords out."""
