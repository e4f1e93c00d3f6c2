"""What a user composes in code of their own: surrogates, neurons, time, encoders, losses. Imports jax alone."""
