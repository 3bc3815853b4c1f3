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
        measured = loop.held_out.measure(policy, device, [last], SHOWN)
    metrics = {f"reward_{last}": audit.MetricRole("trained reward", 1, False)} | loop.held_out.metrics.roles
    name = f"reward_{last}"
    verdict = audit.assess(state.start, measured.values, metrics, (state.start[name], measured.values[name]))
    found = {
        "steps": state.step, "ended": state.ended, "best_step": state.best["step"], "alarms": state.alarms,
        "skipped": state.skipped, "rollbacks": state.standing.rollbacks, "images": len(loop.held_out.pairs),
        "reward": verdict.reward, "held_out": verdict.held_out, "hacking_index": verdict.hacking_index,
        "metrics": audit.compared(state.start, measured.values, metrics),
        "generator": generator, "license": policy.license, "scale": policy.scale,
    }  # fmt: skip
    if loop.run.main:
        start = loop.held_out.start_outputs(loop.held_out.pairs[:SHOWN], device)
        found["examples"] = pictures.write_examples(out / "examples", loop.maps, loop.held_out.pairs, start, measured.outputs)
        atomic.write_text(out / "summary.json", json.dumps(found, indent=1) + "\n")
    return found
