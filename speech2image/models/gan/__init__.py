"""Generators and discriminators of pictures."""
