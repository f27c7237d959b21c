"""Training: devices, the fit that survives a kill, and its run in MLflow.

``keras_lstsr.training.fit.train`` is the one call; ``run_folder`` says what it leaves behind.
"""
