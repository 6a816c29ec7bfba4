"""Objectives that are made of objectives."""

from genkit import hookimpl


@hookimpl
def register_components(register):
    """Registers the objectives."""
    register("sum", "genkit_objectives.sum:Sum", kind="objective")
