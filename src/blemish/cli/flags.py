"""Flags of the command line, read from the fields of RunConfig and from the detectors' own options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import ByteSize
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from blemish.runs.config import FIT_MODEL, RunConfig

Flags = dict[str, inspect.Parameter]
"""Name -> the parameter of a command that typer makes a flag of. Its default is None: not given."""
Command = Callable[..., None]
"""Takes its own parameters, and as `config_path`, `fields` and `options` the TOML file, the fields of RunConfig and the
detector's options that were given."""


def run_flags() -> Flags:
    """A flag for each field of RunConfig, but for the detectors' options, which have their own."""
    fields = {name: field for name, field in RunConfig.model_fields.items() if name != "options"}
    return {name: _flag(name, field.annotation, _help(field)) for name, field in fields.items()}


def fit_flags() -> Flags:
    """Those of `run_flags` that mean something where nothing is evaluated, and one category is learned."""
    without = {"data_path", "ckpt_path", "resume", "figures"}
    model, category = RunConfig.model_fields["model"], "category to learn, where the folder holds several"
    others = {
        "model": _flag("model", str, f"{model.description} (default: {FIT_MODEL})"),
        "category": _flag("category", tuple[str, ...], category),
    }
    return {name: flag for name, flag in (run_flags() | others).items() if name not in without}


def detector_flags() -> Flags:
    """A flag for each option of the registered detectors that is not a field of RunConfig; imports torch."""
    from blemish.detectors import DETECTORS, detector_class

    owners: dict[str, list[str]] = {}
    annotations: dict[str, Any] = {}
    for model in sorted(DETECTORS):
        for name, (annotation, default) in detector_class(model).option_fields().items():
            if name not in RunConfig.model_fields:
                owners.setdefault(name, []).append(f"{model}: {default}")
                annotations[name] = annotation
    return {name: _detector_flag(name, annotations[name], defaults) for name, defaults in owners.items()}


def with_flags(command: Command, fields: Flags, options: Flags) -> Callable[..., None]:
    """The command as a function with one keyword argument per flag, for typer to read."""
    config = _flag("config", Path, "TOML file with any of these; flags win over it")
    given_to_all = ("config_path", "fields", "options")
    every = inspect.signature(command, eval_str=True).parameters
    own = [parameter for name, parameter in every.items() if name not in given_to_all]

    def parsed(**given: Any) -> None:
        values = {name: value for name, value in given.items() if value is not None and value != []}
        command(
            **{parameter.name: given[parameter.name] for parameter in own},
            config_path=values.get("config"),
            fields={name: value for name, value in values.items() if name in fields},
            options={name: value for name, value in values.items() if name in options},
        )

    parameters = [*own, *fields.values(), *options.values(), config]
    parsed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    parsed.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    parsed.__doc__ = command.__doc__
    return parsed


def one_value_each(arguments: Sequence[str], flags: Flags) -> list[str]:
    """The arguments with `--layers 2 3` written as `--layers 2 --layers 3`, which the parser understands."""
    lists = {f"--{name}" for name, flag in flags.items() if get_args(flag.annotation)[0] == list[str] | None}
    found: list[str] = []
    current = ""
    for argument in arguments:
        if argument.startswith("--"):
            current = argument if argument in lists else ""
        elif current and found[-1] != current:
            found.append(current)
        found.append(argument)
    return found


def _flag(name: str, annotation: Any, text: str, panel: str | None = None) -> inspect.Parameter:
    names = f"--{name}/--no-{name}" if annotation in (bool, bool | None) else f"--{name}"
    option = typer.Option(names, help=text, rich_help_panel=panel, show_default=False)
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[_parsed_type(annotation), option],
    )


def _parsed_type(annotation: Any) -> Any:
    """What typer reads from the command line; ranges are checked by pydantic, in one place for flags and TOML."""
    if annotation is ByteSize:
        return str | None
    if get_origin(annotation) is tuple:
        return list[str] | None
    return annotation | None if get_origin(annotation) is not Literal else annotation


def _help(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return f"{field.description} (required)"
    if field.default in ((), False, None):
        return str(field.description)
    default = field.default.human_readable() if isinstance(field.default, ByteSize) else field.default
    return f"{field.description} (default: {default})"


def _detector_flag(name: str, annotation: Any, defaults: list[str]) -> inspect.Parameter:
    plain, field = get_args(annotation)[:2]
    return _flag(name, plain, f"{field.description} (default for {', '.join(defaults)})", "Options of the model")
