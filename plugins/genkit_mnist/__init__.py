"""The MNIST digits, carried as package data: no download."""

from genkit import hookimpl


@hookimpl
def register_components(register):
    """Registers the dataset."""
    register("mnist", "genkit_mnist.mnist:MNIST", kind="dataset")
