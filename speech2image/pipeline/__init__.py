"""Pipeline: what runs. From a recording to pictures, directly or through text (`base`: start here)."""
