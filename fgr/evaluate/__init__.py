"""SR systems on test sets, and scores against people's opinions."""
