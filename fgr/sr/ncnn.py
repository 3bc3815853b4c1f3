"""Networks in ncnn's format (`.param`, `.bin`) as state dicts that spandrel recognises.

Only what the networks of the zoo hold is read: plain convolutions, PReLUs and constants in graph order. Anything else is refused.
The layout is the one documented by ncnn: https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

MAGIC = "7767517"
FLOAT16, FLOAT32, RAW_FLOAT32 = 0x01306B47, 0, 0x0002C056  # tags before a convolution's weights
WEIGHTED = {"Convolution", "PReLU", "MemoryData"}
WEIGHTLESS = {"Input", "Split", "Concat", "Eltwise", "BinaryOp", "Interp", "PixelShuffle", "Sigmoid", "Swish"}
DENSE_BLOCK = [f"rdb{block}.conv{conv}" for block in (1, 2, 3) for conv in (1, 2, 3, 4, 5)]
SPAN_CONVS = ["conv_1", *(f"block_{block}.c{conv}_r" for block in range(1, 7) for conv in (1, 2, 3)), "conv_2"]
SPAN_NAMES = [*SPAN_CONVS, "conv_cat", "upsampler.0"]
SPAN_MEAN = (0.4488, 0.4371, 0.4040)  # what spandrel takes from the input, which weight files do not say

Values = dict[int, float | list[float]]


class BadFile(ValueError):
    """The file is no ncnn network of a kind that can be read; the text says why."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer with weights: a convolution's (out, in, kh, kw) and bias (out,), a PReLU's slopes or a constant's values (n,)."""

    kind: str
    weight: np.ndarray
    bias: np.ndarray | None


def read(param: str, weights: bytes) -> list[Layer]:
    """The layers with weights, float32, in graph order. BadFile unless every byte of `weights` is accounted for."""
    layers, offset = [], 0
    for kind, values in _graph(param):
        if kind == "Convolution":
            layer, offset = _convolution(values, weights, offset)
        else:
            sides = (0, 1, 2) if kind == "MemoryData" else (0,)  # a constant has a width, a height and channels
            data, offset = _floats(weights, offset, math.prod(_integer(values, side, 1) or 1 for side in sides))
            layer = Layer(kind, data, None)
        layers.append(layer)
    if offset != len(weights):
        raise BadFile(f"the weights end at byte {offset}, the file at {len(weights)}")
    return layers


def state_dict(layers: list[Layer]) -> dict[str, np.ndarray]:
    """Names for the layers of an RRDBNet ×4 (convolutions only), an SRVGGNetCompact (with PReLUs) or a SPAN (with a mean)."""
    if any(layer.kind == "MemoryData" for layer in layers):
        return _span_state(layers)
    names = _compact_names(layers) if any(layer.kind == "PReLU" for layer in layers) else _rrdb_names(layers)
    state = {}
    for name, layer in zip(names, layers, strict=True):
        state[f"{name}.weight"] = layer.weight
        if layer.bias is not None:
            state[f"{name}.bias"] = layer.bias
    return state


def _compact_names(layers: list[Layer]) -> list[str]:
    kinds = [layer.kind for layer in layers]
    if kinds != ["Convolution", "PReLU"] * (len(layers) // 2) + ["Convolution"]:
        raise BadFile("the layers are not those of an SRVGGNetCompact")
    return [f"body.{i}" for i in range(len(layers))]


def _rrdb_names(layers: list[Layer]) -> list[str]:
    blocks, rest = divmod(len(layers) - 6, 15)
    if blocks < 1 or rest:
        raise BadFile(f"{len(layers)} convolutions are not those of an RRDBNet")
    body = [f"body.{i}.{name}" for i in range(blocks) for name in DENSE_BLOCK]
    names = ["conv_first", *body, "conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"]
    _expect_rrdb_shapes(names, layers)
    return names


def _expect_rrdb_shapes(names: list[str], layers: list[Layer]) -> None:
    features, growth = layers[0].weight.shape[0], layers[1].weight.shape[0]
    for name, layer in zip(names, layers, strict=True):
        if ".conv" in name:
            number = int(name[-1])
            expected = (features if number == 5 else growth, features + (number - 1) * growth)
        else:
            expected = (3 if name == "conv_last" else features, 3 if name == "conv_first" else features)
        if layer.weight.shape[:2] != expected:
            raise BadFile(
                f"{name} maps {layer.weight.shape[1]} to {layer.weight.shape[0]} channels, not {expected[1]} to {expected[0]}"
            )


def _span_state(layers: list[Layer]) -> dict[str, np.ndarray]:
    """The kernels of a SPAN as those of its training, of which each 3×3 was made: see `_before_merging`."""
    mean, *convs = layers
    if mean.kind != "MemoryData" or [conv.kind for conv in convs] != ["Convolution"] * len(SPAN_NAMES):
        raise BadFile("the layers are not those of a SPAN")
    if mean.weight.shape != (3,) or np.abs(mean.weight - SPAN_MEAN).max() > 1e-6:
        raise BadFile(f"a SPAN takes the mean {SPAN_MEAN} from its input, this network {tuple(mean.weight.tolist())}")
    state: dict[str, np.ndarray] = {}
    for name, conv in zip(SPAN_NAMES, convs, strict=True):
        bias = np.zeros(len(conv.weight), np.float32) if conv.bias is None else conv.bias
        parts = _before_merging(conv.weight, bias) if name in SPAN_CONVS else {"": (conv.weight, bias)}
        for part, (weight, offset) in parts.items():
            state |= {f"{name}{part}.weight": weight, f"{name}{part}.bias": offset}
    return state


def _before_merging(weight: np.ndarray, bias: np.ndarray, gain: int = 2) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The layers whose product is exactly this 3×3 convolution (out, in, 3, 3).

    In training they are in → gain · in → gain · out → out beside a 1×1: here the outer ones copy channels, the middle one is the
    convolution, and the 1×1 is 0. `eval_conv` is their product.
    """
    out, into = weight.shape[:2]
    first = np.eye(gain * into, into, dtype=np.float32)[:, :, None, None]
    middle, middle_bias = np.zeros((gain * out, gain * into, 3, 3), np.float32), np.zeros(gain * out, np.float32)
    middle[:out, :into], middle_bias[:out] = weight, bias
    last = np.eye(out, gain * out, dtype=np.float32)[:, :, None, None]
    return {
        ".sk": (np.zeros((out, into, 1, 1), np.float32), np.zeros(out, np.float32)),
        ".conv.0": (first, np.zeros(gain * into, np.float32)),
        ".conv.1": (middle, middle_bias),
        ".conv.2": (last, np.zeros(out, np.float32)),
        ".eval_conv": (weight, bias),
    }


def _graph(param: str) -> Iterable[tuple[str, Values]]:
    lines = param.splitlines()
    if not lines or lines[0].strip() != MAGIC:
        raise BadFile(f"the graph does not begin with {MAGIC}")
    counts = lines[1].split() if len(lines) > 1 else []
    body = [line.split() for line in lines[2:] if line.strip()]
    if len(counts) != 2 or counts[0] != str(len(body)):
        raise BadFile(f"the graph has {len(body)} layers, its second line says {' '.join(counts) or 'nothing'}")
    for fields in body:
        kind = fields[0]
        if kind in WEIGHTED:
            yield kind, _values(fields)
        elif kind not in WEIGHTLESS:
            raise BadFile(f"layers of type {kind} are not known")


def _values(fields: list[str]) -> Values:
    """The key=value fields of a layer; keys ≤ −23300 are arrays of length,v0,v1…"""
    try:
        inputs, outputs = int(fields[2]), int(fields[3])
        result: Values = {}
        for field in fields[4 + inputs + outputs :]:
            key, _, value = field.partition("=")
            if int(key) <= -23300:
                result[-int(key) - 23300] = [float(item) for item in value.split(",")[1:]]
            else:
                result[int(key)] = float(value)
    except (ValueError, IndexError):
        raise BadFile(f"the layer '{' '.join(fields[:2])}' cannot be read") from None
    return result


def _integer(values: Values, key: int, default: int | None = None) -> int:
    value = values.get(key, default)
    if not isinstance(value, int | float) or not 0 <= value < 2**31 or value != int(value):
        raise BadFile(f"a layer's parameter {key} is {value}")
    return int(value)


def _convolution(values: Values, weights: bytes, offset: int) -> tuple[Layer, int]:
    out, kernel, count = (_integer(values, key) for key in (0, 1, 6))
    height = _integer(values, 11, kernel)
    if _integer(values, 8, 0):
        raise BadFile("a convolution is stored as int8")
    if not out * kernel * height or not count or count % (out * kernel * height):
        raise BadFile(f"{count} weights do not fit a convolution to {out} channels with a {kernel}×{height} kernel")
    data, offset = _tagged(weights, offset, count)
    bias = None
    if _integer(values, 5, 0):
        bias, offset = _floats(weights, offset, out)
    return Layer("Convolution", data.reshape(out, -1, height, kernel), bias), offset


def _tagged(weights: bytes, offset: int, count: int) -> tuple[np.ndarray, int]:
    tag = int.from_bytes(_slice(weights, offset, 4), "little")
    if tag == FLOAT16:
        data = np.frombuffer(_slice(weights, offset + 4, 2 * count), "<f2").astype(np.float32)
        return data, offset + 4 + (2 * count + 3) // 4 * 4
    if tag in (FLOAT32, RAW_FLOAT32):
        return _floats(weights, offset + 4, count)
    raise BadFile(f"unknown storage tag {tag:#x} at byte {offset}")


def _floats(weights: bytes, offset: int, count: int) -> tuple[np.ndarray, int]:
    return np.frombuffer(_slice(weights, offset, 4 * count), "<f4").astype(np.float32), offset + 4 * count


def _slice(weights: bytes, offset: int, size: int) -> bytes:
    data = weights[offset : offset + size]
    if len(data) < size:
        raise BadFile(f"the weights are cut off: byte {offset + size} is needed, the file has {len(weights)}")
    return data
