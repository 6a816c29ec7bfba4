"""What new components of the core's kinds start from: a working method each, with a recipe that trains it.

Each module here is a template for ``genkit new-plugin``. None is registered as a component.
"""

from genkit import hookimpl

KINDS = ("backbone", "dataset", "evaluator", "model", "objective", "optimizer", "sampler", "schedule")


@hookimpl
def register_templates(register):
    """Offers a template of each kind."""
    for kind in KINDS:
        register(kind, f"genkit_templates.{kind}")
