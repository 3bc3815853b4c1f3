"""The page of `fgr app` in gradio: three tabs, to score an image, compare two outputs, upscale one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fgr.app.example_pictures import Examples
from fgr.app.scored_image import ScoredImage, blended, compared, described, fitted, unlike
from fgr.images.photos import over_white
from fgr.report import swipe

Score = Callable[[np.ndarray], ScoredImage]
Read = Callable[..., np.ndarray]  # of a path, and of `transparent=True` where transparency counts
Upscale = Callable[[str, np.ndarray], np.ndarray]

CSS = """
.gradio-container { max-width: min(1500px, 100%) !important; margin: 0 auto !important; }
.fgr-legend { height: .8rem; border-radius: .3rem;
  background: linear-gradient(90deg, #000004, #420a68, #932667, #dd513a, #fca50a, #fcffa4); }
.fgr-ends { display: flex; justify-content: space-between; font-size: .85rem; }
footer { display: none !important; }
"""
LEGEND = (
    '<div class="fgr-legend" role="img" aria-label="Colours of the map"></div>'
    '<div class="fgr-ends"><span>clean</span><span>worst</span></div>'
)
BUTTONS: list[Any] = ["download", "fullscreen"]  # gradio's third would put the picture on a public site
ABOUT = "Larger scores are better, among images of like content. Bright places are where the reward model sees defects."


def build(title: str, read: Read, score: Score, upscale: Upscale, models: Sequence[str], examples: Examples) -> Any:
    """The page as gradio Blocks. `read` opens a file, `score` scores an image, `upscale` runs one of `models`."""
    from html import escape

    import gradio as gr

    score_file = _with_errors_shown(lambda path: score(read(path)))
    with gr.Blocks(title="fgr", analytics_enabled=False) as page:
        gr.HTML(f"<h1>fgr</h1><p>{escape(title)}. {ABOUT}</p>")
        with gr.Tab("Score"):
            _score(score_file, [[str(path)] for path in examples.pictures])
        with gr.Tab("Compare"):
            _compare(score_file, [[str(left), str(right)] for left, right in examples.pairs])
        with gr.Tab("Upscale"):
            _upscale(read, score, upscale, models, [[str(path)] for path in examples.low])
    return page


def appearance() -> Mapping[str, Any]:
    """What `launch` needs for the page's looks: nothing is fetched from elsewhere."""
    import gradio as gr

    fonts = ["system-ui", "sans-serif"]
    return {"theme": gr.themes.Base(font=fonts, font_mono=["ui-monospace", "monospace"]), "css": CSS + swipe.style()}


def _with_errors_shown(work: Callable[..., Any]) -> Callable[..., Any]:
    """`work`, its UserErrors shown on the page as sentences."""
    from functools import wraps
    from html import escape

    import gradio as gr

    from fgr.errors import UserError

    @wraps(work)
    def shown(*arguments: Any) -> Any:
        try:
            return work(*arguments)
        except UserError as error:
            raise gr.Error(escape(str(error))) from None

    return shown


def _picture(label: str, height: int = 320) -> Any:
    import gradio as gr

    picture: Any = gr.Image(label=label, type="filepath", sources=["upload", "clipboard"], height=height, buttons=["fullscreen"])
    picture.preprocess = lambda given: given.path if given else None  # `read` opens it: it knows limits and has sentences
    return picture


def _shown(label: str, name: str) -> Any:
    import gradio as gr

    return gr.Image(label=label, type="numpy", interactive=False, height=440, format="png", buttons=BUTTONS, elem_id=name)


def _strength() -> Any:
    import gradio as gr

    return gr.Slider(0, 1, value=0.8, step=0.05, label="Map over the image (arrow keys move it)")


def _examples(files: list[list[str]], inputs: list[Any]) -> None:
    import gradio as gr

    gr.Examples(files, inputs, label="Examples: click one", cache_examples=False)


def _swipe() -> Any:
    """An empty place for two pictures under one zoom; what is put there is woken up."""
    import gradio as gr

    wake = "const wake = () => element.querySelectorAll('.swipe').forEach(fgrSwipe); watch('value', wake); wake();"
    return gr.HTML(js_on_load=swipe.script(wake=False) + wake, apply_default_css=False)


def _side_by_side(pictures: Mapping[str, ScoredImage]) -> str:
    """The element that compares two scored images by name."""
    shown = [
        swipe.Picture(name, swipe.picture_uri(one.image), swipe.map_uri(one.map), f"{one.score:.3f}")
        for name, one in pictures.items()
    ]
    return swipe.markup([swipe.Scene("Outputs", shown)])


def _score(score_file: Callable[[str], ScoredImage], examples: list[list[str]]) -> None:
    import gradio as gr

    state = gr.State()
    with gr.Row():
        with gr.Column(min_width=280, scale=2):
            given = _picture("Image: drop it, paste it, or choose a file")
            _examples(examples, [given])
        with gr.Column(min_width=280, scale=3):
            shown = _shown("Where it is not good", "score-image")
        with gr.Column(min_width=220, scale=2):
            text = gr.Markdown(elem_id="score-text")
            strength = _strength()
            gr.HTML(LEGEND)

    def assess(path: str | None, share: float) -> tuple[Any, Any, str]:
        if path is None:
            return None, None, ""
        scored = score_file(path)
        return scored, blended(scored, share), described(scored)

    given.change(assess, [given, strength], [state, shown, text])
    strength.change(_fade, [state, strength], shown, show_progress="hidden")


def _fade(scored: ScoredImage | None, share: float) -> Any:
    return None if scored is None else blended(scored, share)


def _compare(score_file: Callable[[str], ScoredImage], examples: list[list[str]]) -> None:
    from functools import lru_cache

    import gradio as gr

    with gr.Row():
        with gr.Column(min_width=280, scale=2):
            given = [_picture(f"{side} output", 190) for side in ("Left", "Right")]
            _examples(examples, given)
        with gr.Column(min_width=280, scale=4):
            shown = _swipe()
        with gr.Column(min_width=220, scale=2):
            verdict = gr.Markdown("Two outputs of one input are compared.", elem_id="compare-text")
            gr.HTML(LEGEND)
    scored = lru_cache(maxsize=4)(score_file)

    def assess(left: str | None, right: str | None) -> tuple[str, str]:
        if left is None or right is None:
            return "", "Two outputs of one input are compared." if left is right else "Choose the other picture, too."
        pictures = {"Left": scored(left), "Right": scored(right)}
        reason = unlike(pictures["Left"].image, pictures["Right"].image)
        if reason:
            return "", reason
        each = "\n\n".join(f"{name}: {described(one)}" for name, one in pictures.items())
        return _side_by_side(pictures), f"{compared(*pictures.values())}\n\n{each}"

    for one in given:
        one.change(assess, given, [shown, verdict])


def _upscale(read: Read, score: Score, upscale: Upscale, models: Sequence[str], examples: list[list[str]]) -> None:
    import gradio as gr

    state = gr.State()
    with gr.Row():
        with gr.Column(min_width=280, scale=2):
            given = _picture("Low-resolution image", 240)
            _examples(examples, [given])
            model = gr.Dropdown(list(models), value=models[0], label="SR model")
            start = gr.Button("Upscale", variant="primary")
        with gr.Column(min_width=280, scale=3):
            shown = _shown("Output, and where it fails", "upscale-image")
        with gr.Column(min_width=220, scale=2):
            text = gr.Markdown(elem_id="upscale-text")
            strength = _strength()
            gr.HTML(LEGEND)
    against = _swipe()

    def run(path: str | None, name: str, share: float) -> tuple[Any, Any, str, str]:
        if path is None:
            raise gr.Error("Choose an image first.")
        low = read(path, transparent=True)
        scored = score(upscale(name, low))
        plain = score(fitted(over_white(low), scored.image.shape[:2]))
        text = f"{described(scored)}\n\nInterpolated by bicubic it would be {described(plain)}."
        return scored, blended(scored, share), text, _side_by_side({"interpolated": plain, name: scored})

    start.click(_with_errors_shown(run), [given, model, strength], [state, shown, text, against])
    strength.change(_fade, [state, strength], shown, show_progress="hidden")
