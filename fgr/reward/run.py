"""`fgr train-rm`: from a dataset to RUN/stage-0 … RUN/stage-N; running it again resumes.

RUN/base       S_base's student: what the first phase distilled
RUN/stage-K    RM_K, each initialised with the stage before
"""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from fgr.errors import UserError, all_of, notice
from fgr.metrics import fidelity
from fgr.metrics.registry import open_base
from fgr.recipe import resolved
from fgr.recipe.reward import RewardRecipe
from fgr.reward import data as batches
from fgr.reward import examples, label_definition, mined, score_scale, splits
from fgr.reward.beginning import averaged, digest_of, open_begun
from fgr.reward.criterion import Criterion, labels
from fgr.reward.encoder import open_pretrained
from fgr.reward.model import FinPercepRM
from fgr.reward.people_labels import PeopleLabels, with_people
from fgr.reward.phase import Phase, PhaseSpec, Validation, phases_of
from fgr.reward.planting import Planter, scale_of
from fgr.reward.pretrained import load_reward_model, save_reward_model
from fgr.training import directory
from fgr.training.accelerator import begin_trackers, open_accelerator
from fgr.training.directory import Run

MAY_GROW = ("stages",)  # the steps of the last stage: more of them extend a run
SCALE_SAMPLES = 64  # samples from which the first scale of the score is taken


def train_reward_model(
    recipe: RewardRecipe, data: str, out: Path, device: str = "auto", mined_files: Sequence[Path] = (), begin: str | None = None,
    averaged_with: Sequence[Path] = (),
) -> Path:  # fmt: skip
    """Train every stage that `out` lacks and return the last one's folder; `mined_files` are rows that rounds before it mined.

    `begin`, or the recipe's, is a reward model that is trained on: then the last stage is the only one. Of that, the mean of its
    weights and of those of `averaged_with`, runs of other rounds, is kept.

    UserError for a dataset or weights that cannot be used and for another recipe's folder; KeyboardInterrupt after saving.
    """
    trainer = _Trainer(recipe, data, out, device, mined_files, begin, averaged_with)
    with trainer.run.alone():
        trainer.start()
        for position, phase in enumerate(trainer.phases):
            if not (out / phase.name / "config.json").is_file():
                trainer.train(position, phase)
        last = out / trainer.phases[-1].name
        if trainer.accelerator.is_main_process and not (out / "examples.json").is_file():
            model = FinPercepRM.from_pretrained(last).to(trainer.accelerator.device)
            rows = examples.write(model, trainer.validation.samples, trainer.validation.chosen, out)
            if (scale := score_scale.of_examples(rows)) is not None:
                score_scale.write(last, scale)
        trainer.accelerator.end_training()
    return last


class _Trainer:
    """Opens and checks everything that a run needs; `start` is the first to write."""

    def __init__(
        self, recipe: RewardRecipe, data: str, out: Path, device: str, mined_files: Sequence[Path] = (), begin: str | None = None,
        averaged_with: Sequence[Path] = (),
    ) -> None:  # fmt: skip
        self.recipe, self.data, self.out, self.begin = recipe, data, out, begin or recipe.begin
        self.averaged_with = averaged_with
        self.accelerator = open_accelerator(recipe.training.precision, out, device, recipe.trackers)
        self.run = Run(out, self.accelerator.is_main_process)
        self.phases = phases_of(recipe)[-1 if self.begin else 0 :]
        self.facts: dict[str, Any] = self._begun_with()
        all_of({"data": self._open_data, "encoder": self._check_encoder, "base": self._check_base})
        self.facts = {"data": splits.split_facts(self.rows)} | self._maps_learned() | self.facts
        self.facts |= {"people": self.people.facts} if self.people is not None else {}
        self.mined = mined.read(mined_files)
        self.facts |= {"mined": {"rows": len(self.mined), "digest": mined.digest(self.mined)}} if self.mined else {}
        self.run.expect("reward", resolved(recipe), self.facts, MAY_GROW)
        self.validation = Validation(self.rows["validation"], recipe.data.validation, self.accelerator.device)

    def _open_data(self) -> None:
        recipe, data = self.recipe, self.data
        self.rows = {
            "train": splits.open_split(data, "train", recipe.data.exclude_models, recipe.data.streaming),
            "validation": splits.open_split(data, "validation", recipe.data.exclude_models),
        }
        self.consensus = splits.open_consensus(data)
        people = recipe.people
        self.people = PeopleLabels(people) if people.scores or people.masks else None
        self.pairs = splits.open_preferences(data, self.rows["train"]) if recipe.loss.preference else []
        splits.expect_learnable(recipe, data, self.rows["train"], self.consensus, self.pairs)

    def start(self) -> None:
        """Begin the run's folder and the trackers, or go on with them."""
        finished = (self.phases[-1].name, "examples", "examples.json")
        self.run.start("reward", resolved(self.recipe), self.facts, MAY_GROW, finished)
        note = splits.note_on_maps(self.data, self.rows["train"], self.recipe.planted.share > 0)
        if note and self.accelerator.is_main_process:
            notice(note)
        self.accelerator.wait_for_everyone()
        begin_trackers(self.accelerator, "fgr-reward", self.recipe.trackers)

    def train(self, position: int, spec: PhaseSpec) -> None:
        """Train the phase at this position, or the rest of it, and save its folder."""
        checkpoint = self.run.load()
        if checkpoint and checkpoint["phase_state"]["phase"] != spec.name:
            checkpoint = None
        done = checkpoint["phase_state"]["step"] if checkpoint else 0
        self.run.keep(lambda line: self._written_before(line, position, done))
        torch.manual_seed(self.recipe.seed + position)
        criterion = self._criterion(spec.name)
        model = self._initial_model(position, spec.stage, criterion).to(self.accelerator.device)
        model.choose_trained(self.recipe.encoder.train)
        scale, cell = float(model.score_std), model.cell if spec.stage else 0
        before = sum(phase.steps for phase in self.phases[:position])
        phase = Phase(spec.name, spec.steps, model, self.accelerator, self.recipe.training, self.run, checkpoint, before)
        planter = None if spec.name == "base" else self._planter
        source = self._batches(spec.steps, done, position, spec.name == "base", planter)
        if self.people is not None and criterion.base is not None:
            source = with_people(source, self.people, criterion.base, self.recipe, self.accelerator, self.out, spec.steps, done)
        phase.fit(
            source,
            lambda net, batch: self._loss(criterion, net, batch, scale, cell),
            lambda net: self.validation(net, criterion, scale, cell, self._validation_planter if planter else None),
        )
        if self.accelerator.is_main_process:
            others = self.averaged_with if spec is self.phases[-1] else ()
            save_reward_model(averaged(phase.result(), others), self.out / spec.name)
        self.accelerator.wait_for_everyone()

    def _loss(self, criterion: Criterion, net: Any, batch: Any, scale: float, cell: int) -> dict[str, torch.Tensor]:
        parts = criterion(net, batch, scale, cell)
        if "left" in batch:
            parts["preference"] = criterion.preference(net, batch["left"], batch["right"], batch["choice"], scale)
            parts["total"] = parts["total"] + parts["preference"]
        if "people_image" in batch:
            said = criterion.people(net, batch, scale, cell)
            parts |= said | {"total": parts["total"] + said["total"]}
        return parts

    def _initial_model(self, position: int, stage: int, criterion: Criterion) -> FinPercepRM:
        if self.begin:
            return open_begun(self.begin, self._settings(stage)).train()
        if position:
            before = FinPercepRM.from_pretrained(self.out / self.phases[position - 1].name)
            model = before.grown(stage)
            if before.decoder is None and model.decoder is not None:
                model.set_map_mean(self._map_mean())
            return model.train()
        if self._pretrained:
            backbone = open_pretrained(self.recipe.encoder.name, self.recipe.encoder.weights or "")
            self._expect_begun_with(backbone.weights.digest)
            model = FinPercepRM(**self._settings(stage), encoder_weights=str(backbone.weights))
            model.load_encoder(backbone)
        else:
            model = FinPercepRM(**self._settings(stage))
        model.set_scale(*self._scale(criterion))
        return model.train()

    def _scale(self, criterion: Criterion) -> tuple[float, float]:
        """Mean and standard deviation of what the first phase distils, over clean, composite and restored crops."""
        values = []
        score = criterion.target or (lambda image, _: criterion.base(image))  # type: ignore[misc]
        for batch in self._first_batches():
            images = [batch[name].to(self.accelerator.device).float() / 255 for name in batches.IMAGES]
            with torch.no_grad():
                values += [score(image, images[0]).float().cpu() for image in images]
        scores = torch.cat(values)
        return float(scores.mean()), max(float(scores.std()), 1e-3)

    def _map_mean(self) -> float:
        """Mean of the maps that the crops' labels know of, kept off 0 and 1."""
        sums = torch.zeros(2)
        for batch in self._first_batches():
            target, known = labels(batch)
            sums += torch.stack([(target * known).sum(), known.sum()])
        return float((sums[0] / sums[1]).clamp(0.01, 0.99))

    @functools.cached_property
    def _planter(self) -> Planter | None:
        """Plants the recipe's share of defects; None where that is 0."""
        if not self.recipe.planted.share:
            return None
        return Planter(self.recipe.planted, scale_of(self._first_batches()), splits.has_sr_map(self.rows["train"]))

    @functools.cached_property
    def _validation_planter(self) -> Planter:
        """The same, for every row, and always a defect that is seen."""
        assert self._planter is not None
        settings = self.recipe.planted.model_copy(update={"share": 1.0, "unseen": 0.0})
        return Planter(settings, self._planter.scale, splits.has_sr_map(self.rows["validation"]))

    def _criterion(self, name: str) -> Criterion:
        recipe = self.recipe
        later: dict[str, Any] = {
            "planted": recipe.planted, "randomize": recipe.training.randomize, "labelled": recipe.people,
        }  # fmt: skip
        if recipe.base.name == "full-reference":
            if name == "base":
                return Criterion(recipe.loss, None, fidelity.full_reference)
            student = load_reward_model(self.begin or self.out / "base").to(self.accelerator.device).requires_grad_(False)
            return Criterion(recipe.loss, lambda image: student(image)[0], **later)
        score = open_base(recipe.base.name, self.accelerator.device)
        if name == "base":
            return Criterion(recipe.loss, None, lambda image, _: score(image))
        return Criterion(recipe.loss, score, **later)

    def _first_batches(self) -> Iterator[Any]:
        """The samples that scales are taken from: the same in every process."""
        return self._batches(max(1, SCALE_SAMPLES // self.recipe.data.batch), 0, 0, distorted=False, part=(0, 1))

    def _batches(
        self, steps: int, done: int, position: int, distorted: bool, planter: Planter | None = None,
        part: tuple[int, int] | None = None,
    ) -> Iterator[Any]:  # fmt: skip
        data, accumulate = self.recipe.data, self.recipe.training.accumulate
        part = part or (self.accelerator.process_index, self.accelerator.num_processes)
        cache = data.cache_mb * 2**20 // max(1, data.workers)
        rows = self.mined if planter else ()
        samples = batches.Samples(
            self.rows["train"], data.crop, data.flips, self.consensus, cache, distorted, planter, rows, self.recipe.mined.share
        )
        seed = self.recipe.seed * 1000 + position
        count = 1 if data.streaming else len(samples)
        draws = batches.Draws(count, data.batch, seed, steps, done, accumulate, part)
        main = batches.loader(samples, draws, data.workers, data.streaming)
        if not self.pairs or distorted:
            return iter(main)
        paired = batches.Draws(len(self.pairs), data.batch, seed + 500, steps, done, accumulate, part)
        composites = batches.Samples(self.rows["train"], data.crop, data.flips)  # those that people chose between, never planted
        others = batches.loader(batches.Pairs(composites if planter else samples, self.pairs), paired, data.workers)
        return (batch | pair for batch, pair in zip(main, others, strict=False))

    def _settings(self, stage: int) -> dict[str, Any]:
        encoder, model = self.recipe.encoder, self.recipe.model.model_dump()
        return model | {
            "encoder": encoder.name, "lora_rank": encoder.lora_rank, "antialias": encoder.antialias,
            "energy_floor": encoder.energy_floor, "stage": stage, "stages": len(self.recipe.stages) - 1,
        }  # fmt: skip

    def _written_before(self, line: dict[str, Any], position: int, done: int) -> bool:
        names = [phase.name for phase in self.phases]
        at = names.index(line["phase"]) if line.get("phase") in names else -1
        return at < position or (at == position and line["step"] <= done)

    def _check_encoder(self) -> None:
        """A misspelt encoder, too many stages, weights that have to be downloaded: before a new run's folder is made."""
        if self.begin:
            open_begun(self.begin, self._settings(self.phases[-1].stage))
            self.facts["begin"] = digest_of(self.begin)
            return
        FinPercepRM(**self._settings(0))
        if (self.out / "run.json").exists() or not self._pretrained:
            return
        weights = open_pretrained(self.recipe.encoder.name, self.recipe.encoder.weights or "").weights
        self.facts["encoder"] = {"origin": weights.origin, "digest": weights.digest}
        if self.accelerator.is_main_process:
            notice(f"the encoder begins with {weights}")

    def _check_base(self) -> None:
        if not (self.out / "run.json").exists() and self.recipe.base.name != "full-reference":
            open_base(self.recipe.base.name)

    @property
    def _pretrained(self) -> bool:
        return self.recipe.encoder.pretrained and self.recipe.encoder.name != "tiny"

    def _begun_with(self) -> dict[str, Any]:
        """What run.json says of the weights that the encoder began with; nothing of a new run, or of one before version 0.2."""
        if not (self.out / "run.json").exists():
            return {}
        return {name: fact for name, fact in directory.read(self.out)["facts"].items() if name == "encoder"}

    def _maps_learned(self) -> dict[str, Any]:
        """How the maps that are learned were made, where the dataset says it; not of a run from before this was written down."""
        begun = directory.read(self.out)["facts"] if (self.out / "run.json").exists() else {"maps": None}
        found = label_definition.of_dataset(self.data) or begun.get("maps")
        return {"maps": found} if found and "maps" in begun else {}

    def _expect_begun_with(self, digest: str) -> None:
        """UserError if a run that is resumed before it trained anything would begin with other weights."""
        recorded = self.facts.get("encoder", {}).get("digest", digest)
        if recorded != digest:
            raise UserError(
                f"The weights of '{self.recipe.encoder.name}' here are not those that the run in {self.out} began with: sha256 "
                f"{digest[:16]}… instead of {recorded[:16]}….",
                "Make the same weights available (run.json says where they were), or name another --out.",
            )
