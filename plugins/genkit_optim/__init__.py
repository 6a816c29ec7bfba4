"""First-party optimizers and learning-rate schedules."""

from genkit import hookimpl


@hookimpl
def register_components(register):
    """Registers the optimizers and the schedules."""
    for name, cls in (
        ("adam", "Adam"),
        ("adamax", "Adamax"),
        ("adamw", "AdamW"),
        ("rmsprop", "RMSprop"),
        ("sgd", "SGD"),
    ):
        register(name, f"genkit_optim.optimizers:{cls}", kind="optimizer")
    for name in ("constant", "cosine", "step", "stages", "exponential"):
        register(name, f"genkit_optim.schedules:{name.capitalize()}", kind="schedule")
