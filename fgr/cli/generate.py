"""`fgr generate`."""
