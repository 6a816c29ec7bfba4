"""What a training step costs: the engine beside a bare loop, and beside the loop that people write."""

from genkit.bench.measure import bench
from genkit.bench.report import Bench
from genkit.bench.whole import WholeRun, whole_run

__all__ = ["Bench", "WholeRun", "bench", "whole_run"]
