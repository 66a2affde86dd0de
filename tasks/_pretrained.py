"""What a checkpoint gives: the weights of transformers' models, and tokenizers; torn files are one line."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import torch

from smcbench.errors import InvalidInput, describe
from smcbench.sources import Checkpoint


def pretrained(made: Any, config: Any, checkpoint: Checkpoint, new: tuple[str, ...] = (), **options: Any) -> Any:
    """A model in fp32 with the checkpoint's weights.

    Args:
        made: transformers' class of the model.
        config: its configuration.
        checkpoint: where the weights are from.
        new: how the names begin of weights that the checkpoint may lack; those are random.
        options: more arguments of the class.

    Raises:
        InvalidInput: the checkpoint is missing, torn, or does not fill the model.
    """
    from transformers.utils import logging

    checkpoint.file("config.json")
    folder = checkpoint.verified().parent
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model, report = made.from_pretrained(
            folder, config=config, dtype=torch.float32, local_files_only=True, output_loading_info=True, **options
        )
    except Exception as error:  # a torn file may raise anything
        raise InvalidInput(f"{folder}: cannot be read as {checkpoint.name} ({_shortened(error)})") from None
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
    wrong = [name for name in report["missing_keys"] if not name.startswith(new)]
    wrong += [str(key) for key in report["mismatched_keys"]]
    if wrong:
        raise InvalidInput(f"{folder}: does not fill the model: {min(wrong)} is missing or of another shape")
    return model.train()


def tokenizer(path: Path) -> Any:
    """The tokenizer in a ``tokenizer.json``, which neither pads nor cuts.

    Raises:
        InvalidInput: it is torn, or something else.
    """
    from tokenizers import Tokenizer

    try:
        found = Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises nothing more special
        raise InvalidInput(f"{path}: cannot be read as a tokenizer ({_shortened(error)}); fetch it again") from None
    found.no_padding()
    found.no_truncation()
    return found


def _shortened(error: Exception) -> str:
    return textwrap.shorten(describe(error), 100, placeholder="...")
