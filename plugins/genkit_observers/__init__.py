"""First-party observers: the display, ``metrics.jsonl`` and TensorBoard, on the hooks that anybody can use."""

from genkit import hookimpl


@hookimpl
def make_observers(start):
    """Makes the observers of one run."""
    from genkit_observers.jsonl import MetricsFile
    from genkit_observers.progress import make_display
    from genkit_observers.tensorboard import TensorBoard

    return [MetricsFile(start), TensorBoard(start), make_display(start)]
