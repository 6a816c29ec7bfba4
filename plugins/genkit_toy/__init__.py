"""Toy distributions in the plane, of which everything is known."""

from genkit import hookimpl


@hookimpl
def register_components(register):
    """Registers the datasets."""
    register("mixture", "genkit_toy.mixture:Mixture", kind="dataset")
