"""Models on disk: the model folder, its contract, and the SavedModel exported from it."""
