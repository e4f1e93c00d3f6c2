"""Training one phase: batches in, a sharded step, metrics and checkpoints out."""
