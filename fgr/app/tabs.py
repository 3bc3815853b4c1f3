"""The page of `fgr app` in gradio: three tabs, to score an image, compare two, upscale one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fgr.app.scored_image import ScoredImage, blended, compared, described, fitted
from fgr.images.photos import over_white

Score = Callable[[np.ndarray], ScoredImage]
Read = Callable[..., np.ndarray]  # of a path, and of `transparent=True` where transparency counts
Upscale = Callable[[str, np.ndarray], np.ndarray]

CSS = """
.gradio-container { max-width: 1200px !important; }
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


def build(title: str, read: Read, score: Score, upscale: Upscale, models: Sequence[str]) -> Any:
    """The page as gradio Blocks. `read` opens a file, `score` scores an image, `upscale` runs one of `models`."""
    from html import escape

    import gradio as gr

    score_file = _with_errors_shown(lambda path: score(read(path)))
    with gr.Blocks(title="fgr", analytics_enabled=False) as page:
        gr.HTML(f"<h1>fgr</h1><p>{escape(title)}. {ABOUT}</p>")
        with gr.Tab("Score"):
            _score(score_file)
        with gr.Tab("Compare"):
            _compare(score_file)
        with gr.Tab("Upscale"):
            _upscale(read, score, upscale, models)
    return page


def appearance() -> Mapping[str, Any]:
    """What `launch` needs for the page's looks: nothing is fetched from elsewhere."""
    import gradio as gr

    fonts = ["system-ui", "sans-serif"]
    return {"theme": gr.themes.Base(font=fonts, font_mono=["ui-monospace", "monospace"]), "css": CSS}


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


def _picture(label: str) -> Any:
    import gradio as gr

    picture: Any = gr.Image(label=label, type="filepath", sources=["upload", "clipboard"], height=360, buttons=["fullscreen"])
    picture.preprocess = lambda given: given.path if given else None  # `read` opens it: it knows limits and has sentences
    return picture


def _shown(label: str) -> Any:
    import gradio as gr

    return gr.Image(label=label, type="numpy", interactive=False, height=400, format="png", buttons=BUTTONS)


def _strength() -> Any:
    import gradio as gr

    return gr.Slider(0, 1, value=0.8, step=0.05, label="Map over the image (arrow keys move it)")


def _score(score_file: Callable[[str], ScoredImage]) -> None:
    import gradio as gr

    state = gr.State()
    with gr.Row():
        with gr.Column(min_width=300):
            given = _picture("Image: drop it, paste it, or choose a file")
        with gr.Column(min_width=300):
            shown = _shown("Where it is not good")
            strength = _strength()
            gr.HTML(LEGEND)
            text = gr.Markdown(elem_id="score-text")

    def assess(path: str | None, share: float) -> tuple[Any, Any, str]:
        if path is None:
            return None, None, ""
        scored = score_file(path)
        return scored, blended(scored, share), described(scored)

    given.change(assess, [given, strength], [state, shown, text])
    strength.change(_fade, [state, strength], shown, show_progress="hidden")


def _fade(scored: ScoredImage | None, share: float) -> Any:
    return None if scored is None else blended(scored, share)


def _compare(score_file: Callable[[str], ScoredImage]) -> None:
    import gradio as gr

    states = [gr.State(), gr.State()]
    given, shown, text = [], [], []
    with gr.Row():
        for side in ("Left", "Right"):
            with gr.Column(min_width=300):
                given.append(_picture(side))
                shown.append(_shown(f"{side}: where it is not good"))
                text.append(gr.Markdown())
    strength = _strength()
    gr.HTML(LEGEND)
    verdict = gr.Markdown(elem_id="compare-text")

    def assess(path: str | None, other: ScoredImage | None, share: float, left: bool) -> tuple[Any, Any, str, str]:
        if path is None:
            return None, None, "", ""
        scored = score_file(path)
        both = "" if other is None else compared(scored, other) if left else compared(other, scored)
        return scored, blended(scored, share), described(scored), both

    for number in (0, 1):
        given[number].change(
            lambda path, other, share, left=not number: assess(path, other, share, left),
            [given[number], states[1 - number], strength],
            [states[number], shown[number], text[number], verdict],
        )
        strength.change(_fade, [states[number], strength], shown[number], show_progress="hidden")


def _upscale(read: Read, score: Score, upscale: Upscale, models: Sequence[str]) -> None:
    import gradio as gr

    state = gr.State()
    with gr.Row():
        with gr.Column(min_width=300):
            given = _picture("Low-resolution image")
            model = gr.Dropdown(list(models), value=models[0], label="SR model")
            start = gr.Button("Upscale", variant="primary")
        with gr.Column(min_width=300):
            shown = _shown("Output, and where it fails")
            strength = _strength()
            gr.HTML(LEGEND)
            text = gr.Markdown(elem_id="upscale-text")

    def run(path: str | None, name: str, share: float) -> tuple[Any, Any, str]:
        if path is None:
            raise gr.Error("Choose an image first.")
        low = read(path, transparent=True)
        scored = score(upscale(name, low))
        plain = score(fitted(over_white(low), scored.image.shape[:2]))
        text = f"{described(scored)}\n\nInterpolated by bicubic it would be {described(plain)}."
        return scored, blended(scored, share), text

    start.click(_with_errors_shown(run), [given, model, strength], [state, shown, text])
    strength.change(_fade, [state, strength], shown, show_progress="hidden")
