"""Adversarial training: a generator, the adversarial objective with its losses and regularizers, rejection sampling."""

from genkit import hookimpl

LOSSES = {
    "minimax": "Minimax",
    "non_saturating": "NonSaturating",
    "least_squares": "LeastSquares",
    "hinge": "Hinge",
    "wasserstein": "Wasserstein",
    "relativistic": "Relativistic",
}
REGULARIZERS = {
    "gradient_penalty": "gradients:GradientPenalty",
    "r1": "gradients:R1",
    "r2": "gradients:R2",
    "spectral_norm": "weights:SpectralNorm",
    "label_smoothing": "labels:LabelSmoothing",
    "instance_noise": "inputs:InstanceNoise",
    "packing": "inputs:Packing",
    "minibatch_stddev": "inputs:MinibatchStddev",
    "diversity": "diversity:Diversity",
}


@hookimpl
def register_components(register):
    """Registers the model, the objective with its parts, and the sampler."""
    register("generator", "genkit_gan.generator:Generator", kind="model")
    register("adversarial", "genkit_gan.adversarial:Adversarial", kind="objective")
    register("rejection", "genkit_gan.rejection:Rejection", kind="sampler")
    for name, cls in LOSSES.items():
        register(name, f"genkit_gan.losses:{cls}", kind="adversarial_loss")
    for name, target in REGULARIZERS.items():
        register(name, f"genkit_gan.regularizers.{target}", kind="regularizer")


@hookimpl
def register_templates(register):
    """Offers what new components of this plugin's kinds start from."""
    for kind in ("adversarial_loss", "regularizer"):
        register(kind, f"genkit_gan.templates.{kind}")
