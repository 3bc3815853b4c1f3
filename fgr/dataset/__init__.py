"""A dataset directory: tables on the disk, card, manifest, verification, loading, the Hub."""
