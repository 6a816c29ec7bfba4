"""First-party backbones: networks for encoders, decoders, generators and critics."""

from genkit import hookimpl


@hookimpl
def register_components(register):
    """Registers the backbones."""
    register("mlp", "genkit_backbones.mlp:MLP", kind="backbone")
    register("cnn", "genkit_backbones.cnn:CNN", kind="backbone")
    register("gated_mlp", "genkit_backbones.gated_mlp:GatedMLP", kind="backbone")
