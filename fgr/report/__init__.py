"""Self-contained HTML pages about datasets and runs."""
