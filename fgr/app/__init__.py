"""The page in the browser: scores, maps, comparisons."""
