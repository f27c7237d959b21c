"""Metrics: ``image`` holds the definitions in NumPy, ``streaming`` the RMSE for Keras training.

Nothing is imported here, so that ``keras_lstsr.metrics.image`` costs no Keras.
"""
