"""What a network costs: energy, memory, and timesteps that it can do without."""
