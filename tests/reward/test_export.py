import pytest
import torch
from typer.testing import CliRunner

from fgr.cli import app
from fgr.errors import UserError
from fgr.reward import export as exporting
from fgr.reward.export import EvenPadding, Plain, export
from fgr.reward.model import FinPercepRM


def awake(**settings):
    """A small model whose map and score depend on the image."""
    torch.manual_seed(0)
    model = FinPercepRM(width=8, hidden=8, **settings).eval()
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    model.set_scale(0.7, 0.1)
    return model


def test_a_program_gives_what_the_model_gives_at_other_sizes(tmp_path):
    model = awake(gate="paper", stage=1, stages=2, lora_rank=2)
    found = export(model, tmp_path / "deep" / "rm.pt2")
    assert max(found.values()) < 1e-5
    program = torch.export.load(tmp_path / "deep" / "rm.pt2").module()
    image = torch.rand(5, 3, 32, 112)
    with torch.no_grad():
        for ours, theirs in zip(model(image), program(image), strict=True):
            assert ours.std() > 0
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["rm.pt2"]


def test_an_onnx_file_gives_what_the_model_gives_at_other_sizes(tmp_path):
    """By the command, which the test of the documentation leaves to this one: the exporter takes long."""
    onnxruntime = pytest.importorskip("onnxruntime")
    model = awake(encoder="tf_efficientnet_lite0")
    model.save_pretrained(tmp_path / "rm")
    done = CliRunner().invoke(app, ["export", str(tmp_path / "rm"), str(tmp_path / "rm.onnx")])
    assert done.exit_code == 0, done.output
    session = onnxruntime.InferenceSession(tmp_path / "rm.onnx", providers=["CPUExecutionProvider"])
    image = torch.rand(2, 3, 64, 96)
    score, degradation_map = session.run(["score", "map"], {"image": image.numpy()})
    with torch.no_grad():
        ours = model(image)
    torch.testing.assert_close(torch.from_numpy(score), ours[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.from_numpy(degradation_map), ours[1], atol=1e-4, rtol=0)


def test_a_score_alone_is_exported_too(tmp_path):
    for gate in ("concat", "paper"):
        plain, image = exporting.Plain(awake(gate=gate, stage=0)), torch.rand(2, 3, 32, 48)
        with torch.no_grad():
            for ours, theirs in zip(plain.model(image), plain(image), strict=True):
                torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_a_file_that_disagrees_is_not_left(tmp_path, monkeypatch):
    monkeypatch.setitem(
        exporting.WRITERS, ".pt2", (lambda plain, image, shapes, path: path.touch(), lambda path: lambda x: (x.sum(), x))
    )
    with pytest.raises(UserError, match="does not reproduce the model's outputs"):
        export(awake(stage=0), tmp_path / "rm.pt2")
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"neither in \.pt2"):
        export(awake(stage=0), tmp_path / "rm.pth")


def test_the_command_says_what_it_wrote(tmp_path):
    awake(stage=0).save_pretrained(tmp_path / "rm")
    done = CliRunner().invoke(app, ["export", str(tmp_path / "rm"), str(tmp_path / "rm.pt2")])
    assert "multiples of 16  largest difference: score" in done.output
    assert (tmp_path / "rm.pt2").is_file()


def test_same_padding_of_tensorflow_is_exported_as_plain_padding():
    """Left to depend on the size, the padding of EfficientNet-Lite keeps the ONNX exporter busy without end."""
    torch.manual_seed(0)
    model = FinPercepRM(encoder="tf_efficientnet_lite0").eval()
    plain = Plain(model)
    assert sum(isinstance(layer, EvenPadding) for layer in plain.modules()) == 5
    image = torch.rand(1, 3, 96, 160)
    with torch.inference_mode():
        features = [part(image) for part in (model.encoder, plain.model.encoder)]
    assert all(torch.equal(one, other) for one, other in zip(*features, strict=True))
