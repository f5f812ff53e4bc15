"""Speech recognition: backends behind one method, CTC and beam search, text as recognizers write it."""
