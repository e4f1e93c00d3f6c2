"""Checkpoints that are all or nothing, and never restored damaged."""

from .manager import Checkpoints, SaveError
from .tree import CheckpointError

__all__ = ["CheckpointError", "Checkpoints", "SaveError"]
