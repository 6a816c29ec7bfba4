"""Normalizing flows: bijections, dequantizers, the model, and flows as priors and posteriors."""

from genkit import hookimpl

BIJECTIONS = {
    "actnorm": "affine:Actnorm",
    "additive_coupling": "coupling:AdditiveCoupling",
    "affine": "affine:Affine",
    "affine_coupling": "coupling:AffineCoupling",
    "inverse_autoregressive": "autoregressive:InverseAutoregressive",
    "invertible_linear": "linear:InvertibleLinear",
    "logit": "affine:Logit",
    "masked_autoregressive": "autoregressive:MaskedAutoregressive",
    "permutation": "linear:Permutation",
    "planar": "planar:Planar",
    "radial": "radial:Radial",
    "repeat": "multiscale:Repeat",
    "spline_coupling": "spline:SplineCoupling",
    "split": "multiscale:Split",
    "squeeze": "multiscale:Squeeze",
}
DEQUANTIZERS = {
    "none": "none:NoDequantizer",
    "uniform": "uniform:UniformDequantizer",
    "variational": "variational:VariationalDequantizer",
}


@hookimpl
def register_components(register):
    """Registers the model, its parts, and what is made of them."""
    register("flow", "genkit_flow.flow:Flow", kind="model")
    register("gated_cnn", "genkit_flow.gated_cnn:GatedCNN", kind="backbone")
    register("flow_prior", "genkit_flow.hybrids:FlowPrior", kind="prior")
    register("flow_posterior", "genkit_flow.hybrids:FlowPosterior", kind="posterior")
    register("round_trip", "genkit_flow.round_trip:RoundTrip", kind="evaluator")
    for name, target in BIJECTIONS.items():
        register(name, f"genkit_flow.bijections.{target}", kind="bijection")
    for name, target in DEQUANTIZERS.items():
        register(name, f"genkit_flow.dequantizers.{target}", kind="dequantizer")


@hookimpl
def register_templates(register):
    """Offers what new components of this plugin's kinds start from."""
    for kind in ("bijection", "dequantizer"):
        register(kind, f"genkit_flow.templates.{kind}")
