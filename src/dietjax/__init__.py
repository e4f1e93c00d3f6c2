"""DIET-SNN in JAX."""
