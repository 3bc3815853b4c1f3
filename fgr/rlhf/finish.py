"""What a finished run leaves: the best and the last network, pictures, and the start against the end."""

import json
from typing import Any

from fgr import atomic
from fgr.rlhf import audit, pictures
from fgr.rlhf.loop import Loop

SHOWN = 6  # images of the report's gallery


def finish(loop: Loop, generator: dict[str, str]) -> dict[str, Any]:
    """Write RUN/best.safetensors, last.safetensors, examples and summary.json; what that holds. `generator`: name and digest."""
    state, out, policy, last = loop.state, loop.run.directory, loop.policy, loop.plan.last
    device = loop.accelerator.device
    best = {name: value.to(device) for name, value in state.best["weights"].items()}
    loop.write(out / "best.safetensors", best, state.best["step"])
    loop.write(out / "last.safetensors", state.ema, state.step)
    with policy.holding(best):
        measured = loop.exam.take(policy, device, [last], SHOWN)
    metrics = {f"reward_{last}": audit.Metric("trained reward", 1, False)} | loop.exam.battery.metrics
    name = f"reward_{last}"
    verdict = audit.assess(state.start, measured.values, metrics, (state.start[name], measured.values[name]))
    found = {
        "steps": state.step, "ended": state.ended, "best_step": state.best["step"], "alarms": state.alarms,
        "skipped": state.skipped, "rollbacks": state.standing.rollbacks, "images": len(loop.exam.pairs),
        "reward": verdict.reward, "battery": verdict.battery, "hacking_index": verdict.hacking_index,
        "metrics": audit.compared(state.start, measured.values, metrics),
        "generator": generator, "license": policy.license, "scale": policy.scale,
    }  # fmt: skip
    if loop.run.main:
        start = loop.exam.starts(loop.exam.pairs[:SHOWN], device)
        found["examples"] = pictures.write_examples(out / "examples", loop.maps, loop.exam.pairs, start, measured.outputs)
        atomic.write_text(out / "summary.json", json.dumps(found, indent=1) + "\n")
    return found
