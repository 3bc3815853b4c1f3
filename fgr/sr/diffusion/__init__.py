"""Upscalers by diffusion: StableSR and its kin, on building blocks of diffusers (extra `fgr[diffusion]`).

A model is a class that can begin, predict and decode, with a sampler (`stepwise.DiffusionModel`), and its `defaults`: what can be
set of it, and the value where the recipe sets none.
"""
