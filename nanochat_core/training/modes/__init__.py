"""The memory modes: where weights, gradients and optimizer state lie during a step. The bits are the same in all."""
