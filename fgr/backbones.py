"""Backbones: networks of timm, opened with pretrained weights, every tensor checked."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fgr import hub_files
from fgr.backbone_weights import Located, locate
from fgr.errors import UserError
from fgr.tensors import read_tensors


@dataclass(frozen=True, slots=True)
class Backbone:
    """An open network in evaluation mode, and where its weights are from."""

    network: Any
    weights: Located


def open_backbone(
    name: str, weights: str = "", *, features_only: bool = False, any_size: bool = False, instead: str = ""
) -> Backbone:
    """The network that timm calls `name`, with its pretrained weights; `str(weights)` of the result says which they are.

    They are taken from `weights`, where that names a file or a folder in timm's format; otherwise from the package that PACKAGED
    lists (installed, or its file in the weights folder), from the Hub's cache, or from the Hub. With a folder `name` may be
    empty. `features_only` gives timm's pyramid of features; `any_size` lets transformers take images of any size. Random numbers
    are left as they were.

    UserError: an unknown name, weights that are absent, damaged or of another network. `instead` ends its hints.
    """
    import torch

    found = locate(name, weights, instead)
    with torch.random.fork_rng(devices=[]):
        network = _created(found, features_only, any_size)
    return Backbone(network.eval(), found)


def _created(found: Located, features_only: bool, any_size: bool) -> Any:
    """Build the network and load its weights, every tensor."""
    import timm
    from safetensors import SafetensorError

    model = f"local-dir:{found.file.parent}" if found.layout == "folder" else found.name
    options: dict[str, Any] = {"features_only": True} if features_only else {}
    sizes: dict[str, Any] = {"dynamic_img_size": True} if any_size else {}
    if found.layout == "folder" and features_only:  # timm would leave at random what is not there
        _expect_fitting(found, read_tensors(found.file))
    elif found.layout == "hub":
        options["pretrained_cfg_overlay"] = {"file": str(found.file), "custom_load": False}
    elif found.layout != "folder":
        options["pretrained_cfg_overlay"] = {"state_dict": _named_tensors(found), "custom_load": False}
    timm_log = logging.getLogger("timm.models._builder")  # it warns of a classifier that features do without
    level = timm_log.level
    timm_log.setLevel(logging.ERROR)
    try:
        try:
            network: Any = timm.create_model(model, pretrained=True, **options, **sizes)
        except TypeError:  # no transformer: it takes any size, or is refused when it is tried
            network = timm.create_model(model, pretrained=True, **options)
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{found.file} could not be loaded into the network '{found.name}' ({hub_files.first_line(error)}).",
            "The file is damaged or belongs to another network: copy or download it again.",
        ) from None
    finally:
        timm_log.setLevel(level)
    if isinstance(getattr(network, "pretrained_cfg", None), dict):
        network.pretrained_cfg.pop("state_dict", None)
    return network


def _named_tensors(found: Located) -> dict[str, Any]:
    """The tensors of a file under timm's names."""
    state = read_tensors(found.file)
    if found.layout == "names":
        _expect_fitting(found, state)
        return state
    shapes = _shapes(found.name)
    mine, theirs = list(shapes.values()), [tuple(value.shape) for value in state.values()]
    if mine != theirs:
        at = next((place for place, (one, other) in enumerate(zip(mine, theirs, strict=False)) if one != other), None)
        where = "" if at is None else f"; tensor {at + 1} is {theirs[at]}, not {mine[at]}"
        raise _other_network(found, f"it has {len(theirs)} tensors, the network {len(mine)}{where}")
    return dict(zip(shapes, state.values(), strict=True))


def _expect_fitting(found: Located, state: Mapping[str, Any]) -> None:
    """UserError unless a file has every tensor of the network, but for the classifier, which features do without."""
    import timm

    config = timm.get_pretrained_cfg(found.name)
    head = (config.classifier if config else None) or ()
    heads = tuple(f"{name}." for name in ((head,) if isinstance(head, str) else head))
    shapes = _shapes(found.name)
    needed = {name: shape for name, shape in shapes.items() if not name.startswith(heads) and "num_batches_tracked" not in name}
    wrong = [name for name, shape in needed.items() if name not in state or tuple(state[name].shape) != shape]
    if wrong:
        first = wrong[0]
        why = f"has the shape {tuple(state[first].shape)}, not {needed[first]}" if first in state else "is not in it"
        raise _other_network(found, f"{len(wrong)} of {len(needed)} tensors do not fit: '{first}' {why}")


def _shapes(name: str) -> dict[str, tuple[int, ...]]:
    """The shapes of a network's tensors by timm's names."""
    import timm

    return {key: tuple(value.shape) for key, value in timm.create_model(name, pretrained=False).state_dict().items()}


def _other_network(found: Located, why: str) -> UserError:
    return UserError(
        f"{found.file} does not hold the network '{found.name}': {why}.",
        "Name the network that the file belongs to, or a file that timm's network of this name was saved to.",
    )
