"""The regularizers, by the place where they act."""
