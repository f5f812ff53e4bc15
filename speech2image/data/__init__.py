"""Data: corpora, the one sample type, shards, augmentation, and the arrays that trainings read."""
