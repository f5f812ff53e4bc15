"""Export: trained networks become model folders that run without torch, and checkpoints again."""
