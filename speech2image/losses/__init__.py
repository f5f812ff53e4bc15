"""Training losses, as functions of tensors."""
