"""People's work in Label Studio: tasks pushed, answers pulled, and a consensus made of them."""
