"""SR by diffusion models: each written once, for the upscaler and for the policy that RL tunes.

A model is a class that can begin, predict and decode, with a sampler (`stepwise.DiffusionModel`), and its `defaults`: what can be
set of it, and the value where the recipe sets none.
"""
