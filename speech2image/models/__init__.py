"""Networks in torch; none of them knows how it is trained."""
