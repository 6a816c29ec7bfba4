"""First-party launchers of sweeps: this machine, SLURM, Ray."""

from genkit import hookimpl


@hookimpl
def register_components(register):
    """Registers the launchers."""
    register("local", "genkit_launchers.local:Local", kind="launcher")
    register("slurm", "genkit_launchers.slurm:Slurm", kind="launcher")
    register("ray", "genkit_launchers.ray:Ray", kind="launcher")
