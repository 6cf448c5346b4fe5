"""The command line that all methods share: `python -m <method>.cli fit|validate|test|predict --config FILE`."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from common.callbacks import PredictionFile, PredictionPictures, SaveConfig
from common.checkpoints import load_weights, read_checkpoint, read_state_dict, start_files, upgrade
from common.data.base import one_thread
from common.data.datamodule import FaceDataModule
from common.errors import USER_ERROR, LabError
from common.task import LandmarkTask, check_method
from common.tracking import wandb_logger

DEFAULTS = Path(__file__).parent / "configs" / "defaults.yaml"
SUBCOMMANDS = ("fit", "validate", "test", "predict")


class LandmarkCLI(LightningCLI):
    """LightningCLI with one model class, one data module, shared defaults and a warm start."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        # Two of them, in this order: Lightning's own save_last writes only when the best improves, so that a resumed
        # run would lose epochs; and the last one must hold the state of the other at the same epoch.
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_lightning_class_args(ModelCheckpoint, "last_checkpoint")
        parser.link_arguments("data.scheme", "model.scheme")
        parser.link_arguments("data.crop.size", "model.input_size")
        parser.add_argument(
            "--init_from", type=list[str] | str | None, default=None,
            help="weights that this run starts from (.ckpt, .safetensors); of a list, each file gives what those "
            "before it lack",
        )  # fmt: skip
        parser.add_argument("--run", type=str | None, default=None, help="folder of the run; default runs/METHOD/DATA")
        parser.add_argument("--track", type=bool, default=True, help="log to W&B (offline unless logged in)")

    def _method(self) -> str:
        task_class: Any = self._model_class  # typed as any module or factory; here always a LandmarkTask
        return task_class.METHOD

    def _value(self, name: str) -> Any:
        return self.config[self.subcommand].get(name)

    def _parse_ckpt_path(self) -> None:
        # The checkpoint's hyper-parameters make the model (a resumed or tested network must be the one that was
        # saved). Its scheme and input size are linked from the data, so they are set there. Reading it here, before
        # anything is written, also finds a damaged file or another method's.
        config = self.config[self.config.subcommand]
        path = config.get("ckpt_path")
        if path in (None, "best", "last", "hpc", "registry"):
            return
        checkpoint = read_checkpoint(path)
        check_method(checkpoint, self._method(), path)
        values = upgrade(self._model_class, checkpoint.get("hyper_parameters") or {}, path)
        data = {"scheme": values.pop("scheme", config.data.scheme)}
        size = values.pop("input_size", config.data.crop.size)
        update = {self.config.subcommand: {"model": values, "data": {**data, "crop": {"size": size}}}}
        self.config = self.parser.parse_object(update, self.config)

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        stage = Path(str(config.config[-1])).stem if config.get("config") else "default"
        chosen = config.get("run") or config.trainer.default_root_dir
        folder = Path(chosen or f"runs/{self._method()}/{config.data.dataset}/{stage}")
        config.trainer.default_root_dir = str(folder)
        for name in ("checkpoint", "last_checkpoint"):
            if config.get(name) is not None:
                config[name].dirpath = config[name].dirpath or str(folder / "checkpoints")

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        config = self.config[self.subcommand]
        if config.trainer.logger is None and not config.trainer.fast_dev_run:
            folder = Path(config.trainer.default_root_dir)
            loggers: list[Any] = [CSVLogger(save_dir=str(folder), name="logs")]
            if self._value("track") and self.subcommand in ("fit", "test"):
                loggers.append(wandb_logger(folder, self._method(), self.subcommand))
            kwargs["logger"] = loggers
        return super().instantiate_trainer(**kwargs)

    def _warm_start(self) -> None:
        sources = start_files(self._value("init_from"))
        if not sources or self._value("ckpt_path") is not None:
            return  # a resumed run must not be reset
        state: dict[str, Tensor] = {}
        for source in reversed(sources):
            if not Path(source).is_file():
                raise LabError(f"{source}: weights to start from are missing; {self.model.start_hint(source)}")
            check_method(read_checkpoint(source), self._method(), source)
            state |= read_state_dict(source)
        load_weights(self.model, state, " and ".join(sources), allow_missing=self.model.new_parts())

    def before_fit(self) -> None:
        self._warm_start()

    def before_validate(self) -> None:
        self._warm_start()

    def before_test(self) -> None:
        self._warm_start()

    def before_predict(self) -> None:
        self._warm_start()


def run_cli(task_class: type[LandmarkTask], args: ArgsType = None) -> LandmarkCLI:
    """Run the command line of a method and return it (tests look at its trainer and model).

    A user's mistake is printed as one line, and the process ends with exit code 2.
    """
    warnings.filterwarnings("ignore", message=".*LightningCLI's args parameter.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    one_thread()
    given = list(sys.argv[1:]) if args is None else list(args)  # type: ignore[arg-type]
    callbacks: list[Callback] = [PredictionPictures(), PredictionFile()]
    try:
        check_config_files(given)
        return LandmarkCLI(
            task_class,
            FaceDataModule,
            save_config_callback=SaveConfig,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            trainer_defaults={"callbacks": callbacks},
            parser_kwargs={name: {"default_config_files": [str(DEFAULTS)]} for name in SUBCOMMANDS},
            args=given,
        )
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(USER_ERROR) from None


def check_config_files(args: list[str]) -> None:
    """Raise a LabError when a file given by --config is missing or is no YAML."""
    for index, word in enumerate(args):
        found = re.fullmatch(r"(?:--config|-c)(?:=(.+))?", word)
        if not found:
            continue
        name = found.group(1) or (args[index + 1] if index + 1 < len(args) else "")
        if not Path(name).is_file():
            raise LabError(f"{name or '--config'}: no such configuration file")
        try:
            yaml.safe_load(Path(name).read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            mark = getattr(error, "problem_mark", None)
            line = f":{mark.line + 1}" if mark else ""
            raise LabError(f"{name}{line}: is not valid YAML") from None
