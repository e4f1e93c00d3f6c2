"""Exchange with other frameworks."""

from . import torch

__all__ = ["torch"]
