"""A run's numbers -> figures -> one page. No jax."""
