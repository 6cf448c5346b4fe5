"""The command line that all methods share: `python -m <method>.cli fit|validate|test|predict --config FILE`."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from torch import Tensor

from common.data import options
from common.data.base import one_thread
from common.data.datamodule import FaceDataModule
from common.errors import LabError
from common.files.checkpoint_io import WholeCheckpoints
from common.files.checkpoints import load_weights, read_checkpoint, read_state_dict, start_files, state_of, upgrade
from common.files.curve import CurveFile
from common.files.room import of_file
from common.files.validation import parse_json
from common.packing import read_metadata
from common.schemes import get_scheme
from common.task import LandmarkTask, check_method
from common.training.callbacks import FiniteBest, PredictionFile, PredictionPictures, SaveConfig
from common.training.command import SUBCOMMANDS, Command
from common.training.failures import check_epochs, check_safe, check_trainer, told_in_one_line
from common.training.former import follow, lacking
from common.training.outcome import fit_lines, fit_result, test_lines, test_result, write_results
from common.training.progress import Bar, EpochLog, StepFigures
from common.training.quiet import quiet
from common.training.stopping import SIGTERM_EXIT, SaveWhenStopped, requeued_file
from common.training.tracking import close, training_id, trial_folder, wandb_logger
from common.training.words import OUT_OF_RANGE, check_moved, explained, rename_former

DEFAULTS = Path(__file__).parents[1] / "configs" / "defaults.yaml"
CROP_OF_NETWORK = ("size", "fit", "box_scale", "side_rule", "nearest")  # what must be as it was in training


class LandmarkParser(LightningArgumentParser):
    """Says what is wrong in one line, without the usage."""

    def options(self) -> set[str]:
        """Return the dotted names of all options, those of subcommands too."""
        found = {action.dest for action in self._actions if action.option_strings}
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                found |= {name for parser in action.choices.values() for name in parser.options()}
        return found

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise LabError(explained(message, sorted(self.options())))


class LandmarkCLI(LightningCLI):
    """LightningCLI with one model class, one data module, shared defaults and a warm start.

    Args:
        command: what was typed.
        arguments: of LightningCLI.
    """

    def __init__(self, command: Command, *arguments: Any, **named: Any) -> None:
        self.command = command
        self._steps = 0  # optimiser steps that a resumed run has made
        self._weights: dict[str, Tensor] = {}  # of ckpt_path
        super().__init__(*arguments, **{**named, "parser_class": LandmarkParser})

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        # Two of them, in this order: Lightning's own save_last writes only when the best improves, so that a resumed
        # run would lose epochs; and the last one must hold the state of the other at the same epoch.
        parser.add_lightning_class_args(FiniteBest, "checkpoint")
        parser.add_lightning_class_args(ModelCheckpoint, "last_checkpoint")
        parser.link_arguments("data.scheme", "model.scheme")
        parser.link_arguments("data.crop.size", "model.input_size")
        parser.add_argument(
            "--init_from", type=list[str] | str | None, default=None,
            help="weights that this run starts from (.ckpt, .safetensors); of a list, each file gives what those "
            "before it lack",
        )  # fmt: skip
        parser.add_argument("--run", type=str | None, default=None, help="folder of the run; default runs/METHOD/DATA")
        for name, default, text in (
            ("resume", False, "go on with the run's last.ckpt (fit)"),
            ("overwrite", False, "replace the run in the folder (fit)"),
            ("upload_checkpoints", False, "W&B keeps the checkpoints"),
            ("track", True, "log to W&B (offline unless logged in)"),
        ):
            parser.add_argument(f"--{name}", type=bool, nargs="?", const=True, default=default, help=text)

    @property
    def _task(self) -> type[LandmarkTask]:
        kind = self._model_class  # typed as any module or factory
        assert isinstance(kind, type) and issubclass(kind, LandmarkTask)
        return kind

    def _method(self) -> str:
        return self._task.METHOD

    def _value(self, name: str) -> Any:
        return self.config[self.subcommand].get(name)

    def _folder(self) -> Path:
        """Return the run's folder."""
        config = self.config[self.config.subcommand]
        chosen = config.get("run") or config.trainer.default_root_dir
        return trial_folder(Path(chosen or f"runs/{self._method()}/{config.data.dataset}/{self.command.stage}"))

    def _parse_ckpt_path(self) -> None:
        # The checkpoint's settings make the model (a resumed or tested network must be the one that was saved), and its
        # crop is the one that the network knows; what is typed on the command line wins. Scheme and input size are
        # linked from the data. Reading it here, before anything is written, also finds a damaged file.
        config = self.config[self.config.subcommand]
        check_safe(config.as_dict())
        if self.config.subcommand == "fit":
            requeued = requeued_file(self._folder())
            anew = config.overwrite and not SLURMEnvironment.detect()  # there it is the same command, started again
            if config.resume:
                config.ckpt_path = "last"
            if requeued is not None and config.get("ckpt_path") in (None, "last") and not anew:
                config.ckpt_path = str(requeued)
        if config.get("ckpt_path") in ("best", "last"):
            config.ckpt_path = str(self._folder() / "checkpoints" / f"{config.ckpt_path}.ckpt")
        path = config.get("ckpt_path")
        if path is None:
            return
        path, checkpoint = self._sound(Path(path))
        config.ckpt_path = str(path)
        self._steps = checkpoint.get("global_step", 0)
        metadata = read_metadata(path) if path.suffix == ".safetensors" else {}
        stored = checkpoint.get("hyper_parameters") or parse_json(metadata.get("hyper_parameters", "{}"), str(path))
        check_method({"method": checkpoint.get("method", metadata.get("method"))}, self._method(), path)
        if self.config.subcommand == "fit" and "optimizer_states" not in checkpoint:
            raise LabError(f"{path}: is no checkpoint of `fit`, which could be resumed; start from it by --init_from")
        if self.config.subcommand == "fit":
            check_epochs(path, checkpoint, config.trainer.max_epochs)
        kept = checkpoint.get("data") or {}
        crop = kept.get("crop") or parse_json(metadata.get("crop", "{}"), str(path))
        if not isinstance(stored, Mapping) or not isinstance(crop, Mapping):
            raise LabError(f"{path}: its settings are damaged; copy it again")
        values = {**upgrade(self._task, stored, path), **self._task.LOADED}
        self._weights = state_of(checkpoint, path)
        data: dict[str, Any] = {"crop": {key: crop[key] for key in CROP_OF_NETWORK if key in crop}}
        if box := kept.get("box", crop.get("box")):  # former files keep it in the crop
            data["box"] = box
        if "scheme" in values:
            data["scheme"] = values.pop("scheme")
        if "input_size" in values:
            data["crop"]["size"] = values.pop("input_size")
        known = {"model": values, "data": data}
        for key in self.command.typed:
            forget(known, key.split("."))
        self.config = self.parser.parse_object({self.config.subcommand: known}, self.config)

    def _sound(self, path: Path) -> tuple[Path, dict[str, Any]]:
        """Return a checkpoint's path and content; where a run's last one is damaged, the newest sound one's beside it.

        Raises:
            LabError: there is none.
        """
        try:
            return path, read_checkpoint(path)
        except LabError as error:
            others = [other for other in path.parent.glob("*.ckpt") if other != path]
            if self.config.subcommand != "fit" or path.name != "last.ckpt" or not path.is_file():
                raise
            for other in sorted(others, key=lambda file: file.stat().st_mtime, reverse=True):
                try:
                    content = read_checkpoint(other)
                except LabError:
                    continue
                print(f"{error}; going on from {other.name}, epoch {content.get('epoch')}", file=sys.stderr)
                return other, content
            raise

    def _set_seed(self) -> None:
        try:
            super()._set_seed()
        except ValueError as error:
            raise LabError(f"--seed_everything: {error}") from None

    def before_instantiate_classes(self) -> None:
        config, folder = self.config[self.subcommand], self._folder()
        if config.get("init_from") in ([], ""):
            raise LabError("--init_from names no file; give one, or leave it out (null in a recipe)")
        # A file of the user's own goes into the run's configuration whole: it may not be there later.
        config.data.scheme = config.model.scheme = get_scheme(config.data.scheme).word
        if config.get("init_from") and "init_from" not in self.command.typed:
            written_for = ((self.command.recipe or {}).get("data") or {}).get("dataset")
            moved = bool({"run", "trainer.default_root_dir"} & self.command.typed)
            sources = start_files(config.init_from)
            found = [follow(source, folder, written_for, config.data.dataset, moved) for source in sources]
            config.init_from = found[0] if len(found) == 1 else found
        if "verbose" in config:
            config.verbose = False  # Lightning's table; the run's own follows
        if self.subcommand != "fit" and config.ckpt_path is None and not start_files(config.get("init_from")):
            raise LabError(f"{self.subcommand} needs weights: give --ckpt_path FILE, best or last, or --init_from FILE")
        if self.subcommand == "fit" and not config.trainer.fast_dev_run:
            self._keep_former_run(folder / "checkpoints")
        config.trainer.default_root_dir = str(folder)
        for name in ("checkpoint", "last_checkpoint"):
            if config.get(name) is not None:
                config[name].dirpath = config[name].dirpath or str(folder / "checkpoints")

    def _keep_former_run(self, checkpoints: Path) -> None:
        config = self.config[self.subcommand]
        here = [folder.resolve() for folder in (checkpoints, checkpoints.parent)]
        own = config.ckpt_path is not None and Path(config.ckpt_path).resolve().parent in here
        if not own and not config.overwrite and any(checkpoints.glob("*.ckpt")):
            raise LabError(f"{checkpoints.parent}: holds a run already; go on with it by --resume, replace it by "
                           "--overwrite, or choose another --run")  # fmt: skip

    def instantiate_classes(self) -> None:
        try:
            path = self._value("ckpt_path")
            with contextlib.nullcontext() if path is None else of_file(self._weights, path):
                super().instantiate_classes()
        except ValueError as error:  # of constructors, which do not know the option's name
            # Of a group that may be absent, the parser says more: what is wrong with it as each other type.
            found = OUT_OF_RANGE.search(str(error))
            raise LabError(
                found[0] if found else f"a value of --model or --data is out of its range: {error}"
            ) from error

    def _check_start(self) -> None:
        """Open the data and load the weights before a folder or a W&B run is made.

        Raises:
            LabError: says all that is missing.
        """
        problems = []
        package = Path(inspect.getfile(self._model_class)).parent
        try:
            self.datamodule.setup(str(self.subcommand))
        except LabError as error:
            problems.append(str(error))
        for source in start_files(self._value("init_from")):
            if self._value("ckpt_path") is None and not Path(source).is_file():
                problems.append(lacking(source, package, self.command.data_words()))
        if problems:
            raise LabError("; and ".join(problems))
        self._warm_start()

    def instantiate_trainer(self, **kwargs: object) -> Trainer:
        config = self.config[self.subcommand]
        self._check_start()
        own = config.trainer.logger is None and not config.trainer.fast_dev_run
        self._add_progress(config.trainer.enable_progress_bar, kwargs)
        folder = Path(config.trainer.default_root_dir)
        if own:
            # Figures of the other subcommands are in results.json.
            curve = CurveFile(folder / "logs" / "version_0" / "metrics.csv", self._steps)
            kwargs["logger"] = [curve] if self.subcommand == "fit" else False
        plugins = config_list(self.config_init[self.subcommand].trainer.plugins)
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            kwargs["plugins"] = [*plugins, WholeCheckpoints()]
        try:
            trainer = super().instantiate_trainer(**kwargs)
            check_trainer(trainer)
        except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
            raise LabError(f"trainer: {' '.join(str(error).split())}") from None
        if own and self._value("track") and self.subcommand in ("fit", "test") and trainer.is_global_zero:
            source = self._value("ckpt_path")
            place = folder.resolve() if source is None else Path(source).resolve().parent
            run = folder if place == folder.resolve() else place.parent
            about = {"cli": config.as_dict(), "dataset": config.data.dataset, "checkpoint": source,
                     "training_run": training_id(run)}  # fmt: skip
            logger = wandb_logger(folder, self._method(), self.subcommand, bool(config.upload_checkpoints),
                                  config=about, resume=self.subcommand == "fit" and source is not None)  # fmt: skip
            trainer.loggers = [*trainer.loggers, logger]
        return trainer

    def _add_progress(self, bar: bool | None, kwargs: dict[str, object]) -> None:
        """Show a bar in a terminal, else a line an epoch; neither where the bar is switched off."""
        terminal = sys.stdout.isatty()
        self.epochs = EpochLog(lines=bar is not False and not terminal, shown=bar is not False)
        callbacks: list[Callback] = [*self.trainer_defaults["callbacks"], StepFigures(), self.epochs]
        if bar is not False and terminal:
            callbacks.append(Bar(self.epochs))
        kwargs["enable_progress_bar"] = bar is not False and terminal
        self.trainer_defaults = {**self.trainer_defaults, "callbacks": callbacks}

    def _warm_start(self) -> None:
        sources = start_files(self._value("init_from"))
        if not sources or self._value("ckpt_path") is not None:
            return  # a resumed run must not be reset
        state: dict[str, Tensor] = {}
        for source in reversed(sources):
            check_method(read_checkpoint(source), self._method(), source)
            state |= read_state_dict(source)
        load_weights(self.model, state, " and ".join(sources), allow_missing=self.model.new_parts())
        print(f"starts from {' and '.join(sources)}")

    def _use_weights(self) -> None:
        path = self._value("ckpt_path")
        if path is not None:  # read strictly, and reported in one line, where Lightning's loader would not be
            load_weights(self.model, read_state_dict(path), str(path), allow_missing=self.model.new_parts())
            self.config_init[self.subcommand].ckpt_path = None

    def before_validate(self) -> None:
        self._use_weights()

    def before_test(self) -> None:
        self._use_weights()

    def before_predict(self) -> None:
        self._use_weights()

    def after_fit(self) -> None:
        data: FaceDataModule = self.datamodule
        folder = Path(self.trainer.default_root_dir)
        kept = [c for c in self.trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
        best = next((c.best_model_score for c in kept if c.monitor == "val/nme"), None)
        about = {"dataset": data.dataset, "train_faces": data.cropped("train").faces.per_epoch(),
                 "val_faces": len(data.cropped("val")), "crop": data.crop_words("val")}  # fmt: skip
        found = fit_result(folder / "checkpoints", None if best is None else float(best), about,
                           self.trainer.current_epoch, time.monotonic() - self.epochs.began)  # fmt: skip
        self._finish("fit", found, {"best/nme": found.get("val_nme"), "best/epoch": found.get("best_epoch")})

    def after_validate(self) -> None:
        self._finish_figures("validate")

    def after_test(self) -> None:
        self._finish_figures("test")

    def _finish_figures(self, job: str) -> None:
        if self.model.evaluation is not None:
            found = test_result(self.model.evaluation) | {"dataset": self.datamodule.dataset}
            self._finish(job, found | {"weights": self._value("ckpt_path") or self._value("init_from")}, {})

    def _finish(self, job: str, found: dict[str, object], summary: dict[str, object]) -> None:
        """Print and keep the result, and end the W&B run."""
        folder, loggers = Path(self.trainer.default_root_dir), self.trainer.loggers
        if self.trainer.fast_dev_run or not self.trainer.is_global_zero:  # type: ignore[attr-defined]
            return
        write_results(folder, job, found, self.command.shown)
        if job == "fit":
            curves = next((str(logger.path.parent) for logger in loggers if isinstance(logger, CurveFile)), None)
            lines = fit_lines(found, folder, curves, f"{self._method()}.cli")
        else:
            crop = self.datamodule.crop_words("val" if job == "validate" else "test")
            lines = test_lines(job, found, self.datamodule.dataset, crop, folder)
        print("\n".join(lines))
        close(loggers, {key: value for key, value in summary.items() if value is not None})


def config_list(value: object) -> list[object]:
    """Return what may be given as one, several or none."""
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


def forget(tree: object, path: list[str]) -> None:
    """Remove a nested entry, if it is there."""
    for name in path[:-1]:
        tree = tree.get(name) if isinstance(tree, dict) else None
    if isinstance(tree, dict):
        tree.pop(path[-1], None)


def run_command(task_class: type[LandmarkTask], command: Command) -> LandmarkCLI:
    """Run a subcommand and return its command line.

    Raises:
        LabError: a user's mistake.
    """
    quiet()
    one_thread()
    where = str(command.files[-1]) if command.files else ""
    check_moved(command.recipe or {}, task_class.MOVED, where)
    if command.recipe and isinstance(command.recipe.get("data"), dict):
        command = replace(command, recipe={**command.recipe, "data": options.upgrade(command.recipe["data"])})
    words = rename_former(command.arguments(), task_class.MOVED, "model")
    callbacks: list[Callback] = [PredictionPictures(), PredictionFile(), SaveWhenStopped()]
    try:
        with told_in_one_line():
            return LandmarkCLI(
                command,
                task_class,
                FaceDataModule,
                save_config_callback=SaveConfig,
                auto_configure_optimizers=False,
                seed_everything_default=0,
                trainer_defaults={"callbacks": callbacks},
                parser_kwargs={
                    "allow_abbrev": False,  # the subcommands' parsers take it from this one
                    **{name: {"default_config_files": [str(DEFAULTS)]} for name in SUBCOMMANDS},
                },
                args=rename_former(words, options.MOVED, "data"),
            )
    except SIGTERMException:
        raise SystemExit(SIGTERM_EXIT) from None
