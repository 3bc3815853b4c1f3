"""`fgr app`: opens a reward model and serves the page on this machine."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from fgr.app.scored_image import ScoredImage
from fgr.errors import UserError, missing_extra
from fgr.images.photos import over_white

if TYPE_CHECKING:
    from fgr.sr import Upscaler

ANY_SCALE = 4  # of models without a factor of their own
HOST = "127.0.0.1"
UPLOADS = "GRADIO_TEMP_DIR"  # where gradio looks for the folder of uploads
LARGEST_INPUT = 1024 * 1024  # pixels of a low-resolution image
TILE = 256


@contextmanager
def serving(reward: str, models: Sequence[str] | None, port: int, device: str) -> Iterator[str]:
    """Serve the page on the loopback interface and give its address; `port` 0 takes a free one, no `models` all that are here.

    UserError: gradio is not installed, no such reward model, unknown SR models, the port is taken.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        import gradio  # noqa: F401
    except ImportError:
        raise missing_extra("gradio", "app", "The page") from None
    from fgr.app.example_pictures import written
    from fgr.app.tabs import appearance, build
    from fgr.devices import choose_device
    from fgr.reward.pretrained import load_reward_model
    from fgr.reward.score import score

    chosen, port = choose_device(device), _usable(port)
    model = load_reward_model(reward, chosen)

    def scored(image: np.ndarray) -> ScoredImage:
        opaque = over_white(image)
        return ScoredImage(opaque, *score(model, opaque), image if image.shape[2] == 4 else None)

    names = list(models) if models else available()
    with uploads_of_its_own() as uploads:
        page = build(f"Reward model {reward}", _read, scored, Upscalers(names, chosen), names, written(uploads))
        page.queue(default_concurrency_limit=1)
        _, address, _ = page.launch(
            server_name=HOST, server_port=port, prevent_thread_lock=True, quiet=True, share=False, show_error=True,
            max_file_size="100mb", footer_links=[], app_kwargs={"middleware": [_known_hosts()]}, **appearance(),
        )  # fmt: skip
        try:
            yield str(address)
        finally:
            page.close(verbose=False)


@contextmanager
def uploads_of_its_own() -> Iterator[Path]:
    """A folder for what is uploaded and shown, readable by its owner alone, which is removed when the page ends."""
    import tempfile

    before = os.environ.get(UPLOADS)
    with tempfile.TemporaryDirectory(prefix="fgr-app-", ignore_cleanup_errors=True) as folder:
        os.environ[UPLOADS] = folder
        try:
            yield Path(folder)
        finally:
            if before is None:
                del os.environ[UPLOADS]
            else:
                os.environ[UPLOADS] = before


def _known_hosts() -> Any:
    """Requests must be for this machine by name: a foreign page whose name is pointed at 127.0.0.1 is refused."""
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    return Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"], www_redirect=False)


def _read(path: str, transparent: bool = False) -> np.ndarray:
    """An uploaded file; errors name it as its owner does, not where the server keeps it."""
    from fgr.image_files import read_image

    try:
        return read_image(Path(path), transparent=transparent)
    except UserError as error:
        raise UserError(error.message.replace(path, Path(path).name), error.hint) from None


def available() -> list[str]:
    """Names of the SR models whose weights are on this machine, bicubic last."""
    from fgr.sr.catalogue import catalogue

    here = [row["name"] for row in catalogue([]) if row["state"] == "here" and row["scale"]]
    return [*here, "bicubic"]


class Upscalers:
    """SR models by name, each opened when it is first asked for. UserError for unknown names at once."""

    def __init__(self, names: Sequence[str], device: str) -> None:
        from fgr.sr import parse_name
        from fgr.sr.tuned_run import model_of

        self._device = device
        self._named = {name: model_of(Path(name)) if Path(name).is_dir() else name for name in names}
        for name in self._named.values():
            parse_name(name)
        self._open: dict[str, Upscaler] = {}

    def __call__(self, name: str, image: np.ndarray) -> np.ndarray:
        """The output for a low-resolution image, uint8 (H, W, 3 or 4). UserError if it is too large or the weights do not work.

        Transparency is restored as Real-ESRGAN's program does: by the network itself, as a grey image.
        """
        if image.shape[0] * image.shape[1] > LARGEST_INPUT:
            raise UserError(
                f"The image has {image.shape[1]}×{image.shape[0]} pixels: too many for the page.",
                "Give a low-resolution image of at most a megapixel; `fgr generate` and `fgr evaluate` take larger ones.",
            )
        upscaler = self._opened(name)
        colors = _restored(upscaler, image[:, :, :3])
        if image.shape[2] == 3:
            return colors
        alpha = _restored(upscaler, np.repeat(image[:, :, 3:], 3, axis=2))
        return np.dstack([colors, cv2.cvtColor(alpha, cv2.COLOR_RGB2GRAY)])

    def _opened(self, name: str) -> "Upscaler":
        if name not in self._open:
            self._open[name] = _open_at_its_scale(self._named[name], self._device)
        return self._open[name]


def _restored(upscaler: "Upscaler", image: np.ndarray) -> np.ndarray:
    from fgr.sr import Job, NonFiniteOutput

    height, width = image.shape[:2]
    try:
        return upscaler.upscale([Job(np.ascontiguousarray(image), "page", (height, width), (0, 0, height))])[0]
    except NonFiniteOutput as error:
        raise UserError(f"{error}.", "Check its weights.") from None


def _open_at_its_scale(name: str, device: str) -> "Upscaler":
    """With the factor that the network has; ×4 where it has none of its own."""
    from fgr.sr import open_upscaler, parse_name
    from fgr.sr.spec import WITHOUT_NETWORK

    any_scale = parse_name(name).kind in WITHOUT_NETWORK
    return open_upscaler(name, scale=ANY_SCALE if any_scale else None, device=device, tile=0 if any_scale else TILE)


def _usable(port: int) -> int:
    """The port, or a free one for 0. UserError if it is taken."""
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise UserError(f"The port {port} of {HOST} cannot be used: {error}.", "Choose another with --port.") from None
        return int(probe.getsockname()[1])
