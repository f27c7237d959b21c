"""Apache Beam jobs: rasters in, TFRecords out."""

from keras_lstsr.registration import load_extensions

load_extensions()  # here, so that workers know a user's guides and products too
