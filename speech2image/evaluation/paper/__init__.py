"""Tables and figures of the paper (Li et al., "Direct Speech-to-Image Translation", 2020), made anew."""
