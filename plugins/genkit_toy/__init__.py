"""Toy distributions in the plane, of which nearly everything is known."""

from genkit import hookimpl


@hookimpl
def register_components(register):
    """Registers the datasets."""
    register("checkerboard", "genkit_toy.checkerboard:Checkerboard", kind="dataset")
    register("circles", "genkit_toy.circles:Circles", kind="dataset")
    register("energy", "genkit_toy.energy:Energy", kind="dataset")
    register("mixture", "genkit_toy.mixture:Mixture", kind="dataset")
    register("moons", "genkit_toy.moons:Moons", kind="dataset")
    register("pinwheel", "genkit_toy.pinwheel:Pinwheel", kind="dataset")
    register("rings", "genkit_toy.rings:Rings", kind="dataset")
