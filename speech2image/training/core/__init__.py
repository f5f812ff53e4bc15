"""What every training shares: the run's folder, checkpoints, the average, batches, learners."""
