"""Training the bundles' networks; needs neither DALI nor Holoscan.

`fit` is the one loop; what is trained is a network, a source of batches and a loss.
"""

from cspine.training.checkpoint import Checkpoint, export_weights
from cspine.training.loop import Batch, Batches, Loss, Plan, Task, fit

__all__ = ["Batch", "Batches", "Checkpoint", "Loss", "Plan", "Task", "export_weights", "fit"]
