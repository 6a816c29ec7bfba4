"""The MNIST digits, carried as package data: no download."""

from genkit import hookimpl


@hookimpl
def register_components(register):
    """Registers the datasets."""
    register("mnist", "genkit_mnist.mnist:MNIST", kind="dataset")
    register("stacked_mnist", "genkit_mnist.stacked_mnist:StackedMNIST", kind="dataset")
    register("static_mnist", "genkit_mnist.static_mnist:StaticMNIST", kind="dataset")
