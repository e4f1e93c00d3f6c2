"""What a network costs: energy, memory, timesteps that it can do without; and which of its layers do nothing."""
