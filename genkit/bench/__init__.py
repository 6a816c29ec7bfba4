"""What a training step costs: the engine beside a bare loop, and beside the loop that people write."""

from genkit.bench.measure import bench
from genkit.bench.report import Bench

__all__ = ["Bench", "bench"]
