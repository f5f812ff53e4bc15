"""Image teachers: the frozen networks whose features the encoders learn to predict."""
