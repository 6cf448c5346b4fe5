"""The command line that all methods share: `python -m <method>.cli fit|validate|test|predict --config FILE`."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from common.data.base import one_thread
from common.data.datamodule import FaceDataModule
from common.errors import USER_ERROR, LabError
from common.files.checkpoint_io import WholeCheckpoints
from common.files.checkpoints import load_weights, read_checkpoint, read_state_dict, start_files, upgrade
from common.packing import read_metadata
from common.schemes import get_scheme
from common.task import LandmarkTask, check_method
from common.training.callbacks import PredictionFile, PredictionPictures, SaveConfig
from common.training.tracking import wandb_logger
from common.training.words import check_config_files, rename_former, typed_keys

DEFAULTS = Path(__file__).parents[1] / "configs" / "defaults.yaml"
SUBCOMMANDS = ("fit", "validate", "test", "predict")
CROP_OF_NETWORK = ("size", "box_scale", "side_rule", "nearest")  # what must be as it was in training


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
        parser.add_argument("--resume", type=bool, default=False, help="go on with the run's last.ckpt (fit)")
        parser.add_argument("--overwrite", type=bool, default=False, help="replace the run in the folder (fit)")
        parser.add_argument("--track", type=bool, default=True, help="log to W&B (offline unless logged in)")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        self._given = [str(word) for word in args] if isinstance(args, list) else []
        super().parse_arguments(parser, args)

    def _method(self) -> str:
        task_class: Any = self._model_class  # typed as any module or factory; here always a LandmarkTask
        return task_class.METHOD

    def _value(self, name: str) -> Any:
        return self.config[self.subcommand].get(name)

    def _folder(self) -> Path:
        """Return the run's folder."""
        config = self.config[self.config.subcommand]
        stage = Path(str(config.config[-1])).stem if config.get("config") else "default"
        chosen = config.get("run") or config.trainer.default_root_dir
        return Path(chosen or f"runs/{self._method()}/{config.data.dataset}/{stage}")

    def _parse_ckpt_path(self) -> None:
        # The checkpoint's settings make the model (a resumed or tested network must be the one that was saved), and its
        # crop is the one that the network knows; what is typed on the command line wins. Scheme and input size are
        # linked from the data. Reading it here, before anything is written, also finds a damaged file.
        config = self.config[self.config.subcommand]
        if self.config.subcommand == "fit" and config.resume:
            config.ckpt_path = "last"
        if config.get("ckpt_path") in ("best", "last"):
            config.ckpt_path = str(self._folder() / "checkpoints" / f"{config.ckpt_path}.ckpt")
        path = config.get("ckpt_path")
        if path is None:
            return
        checkpoint = read_checkpoint(path)
        metadata = read_metadata(Path(path)) if Path(path).suffix == ".safetensors" else {}
        stored = checkpoint.get("hyper_parameters") or json.loads(metadata.get("hyper_parameters", "{}"))
        check_method({"method": checkpoint.get("method", metadata.get("method"))}, self._method(), path)
        if self.config.subcommand == "fit" and "optimizer_states" not in checkpoint:
            raise LabError(f"{path}: is no checkpoint of `fit`, which could be resumed; start from it by --init_from")
        values = upgrade(self._model_class, stored, path)
        crop = dict((checkpoint.get("data") or {}).get("crop") or json.loads(metadata.get("crop", "{}")))
        crop = {key: crop[key] for key in CROP_OF_NETWORK if key in crop}
        data: dict[str, Any] = {"crop": crop}
        if "scheme" in values:
            data["scheme"] = values.pop("scheme")
        if "input_size" in values:
            crop["size"] = values.pop("input_size")
        known = {"model": values, "data": data}
        for key in typed_keys(self._given):
            forget(known, key.split("."))
        self.config = self.parser.parse_object({self.config.subcommand: known}, self.config)

    def before_instantiate_classes(self) -> None:
        config, folder = self.config[self.subcommand], self._folder()
        # A file of the user's own goes into the run's configuration whole: it may not be there later.
        config.data.scheme = config.model.scheme = get_scheme(config.data.scheme).word
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
        own = config.ckpt_path is not None and Path(config.ckpt_path).resolve().parent == checkpoints.resolve()
        if not own and not config.overwrite and any(checkpoints.glob("*.ckpt")):
            raise LabError(f"{checkpoints.parent}: holds a run already; go on with it by --resume true, replace it by "
                           "--overwrite true, or choose another --run")  # fmt: skip

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        config = self.config[self.subcommand]
        if config.trainer.logger is None and not config.trainer.fast_dev_run:
            folder = Path(config.trainer.default_root_dir)
            loggers: list[Any] = [CSVLogger(save_dir=str(folder), name="logs")]
            if self._value("track") and self.subcommand in ("fit", "test"):
                loggers.append(wandb_logger(folder, self._method(), self.subcommand))
            kwargs["logger"] = loggers
        plugins = config_list(self.config_init[self.subcommand].trainer.plugins)
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            kwargs["plugins"] = [*plugins, WholeCheckpoints()]
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ValueError, RuntimeError) as error:
            raise LabError(f"trainer: {' '.join(str(error).split())}") from None

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

    def _use_weights(self) -> None:
        self._warm_start()
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


def config_list(value: Any) -> list[Any]:
    """Return what may be given as one, several or none."""
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


def forget(tree: dict[str, Any], path: list[str]) -> None:
    """Remove a nested entry, if it is there."""
    for name in path[:-1]:
        tree = tree.get(name) or {}
    if isinstance(tree, dict):
        tree.pop(path[-1], None)


def run_cli(task_class: type[LandmarkTask], args: ArgsType = None) -> LandmarkCLI:
    """Run the command line of a method and return it (tests look at its trainer and model).

    A user's mistake is printed as one line, and the process ends with exit code 2.
    """
    warnings.filterwarnings("ignore", message=".*LightningCLI's args parameter.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    one_thread()
    moved = task_class.MOVED
    given = rename_former(list(sys.argv[1:]) if args is None else list(args), moved)  # type: ignore[arg-type]
    callbacks: list[Callback] = [PredictionPictures(), PredictionFile()]
    try:
        check_config_files(given, moved)
        return LandmarkCLI(
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
            args=given,
        )
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(USER_ERROR) from None
