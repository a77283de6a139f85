"""The flags of `fit` and `train`, generated from the fields of RunConfig and the options of the chosen model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel, ByteSize
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from blemish.cli.help import format_default
from blemish.detectors import DETECTORS, detector_class
from blemish.errors import BlemishError
from blemish.imaging.input_size import AnySize
from blemish.runs.benchmark.config import SETTINGS, BenchmarkConfig
from blemish.runs.config import Duration, RunConfig, read_toml
from blemish.runs.resolution import SIZES
from blemish.runs.sweep.config import SweepConfig
from blemish.runs.trained import OF_TRAINING, is_trained

Flags = dict[str, inspect.Parameter]
"""Name -> the function parameter from which typer makes a flag; its default None means that it was not given."""
Command = Callable[..., None]
"""A command with its own parameters, and `config_path` (the TOML file), `fields` (of RunConfig) and `options` (of the
detector) as far as they were given."""

OF_SEVERAL_RUNS: dict[str, type[BaseModel]] = {"benchmark": BenchmarkConfig, "sweep": SweepConfig}
"""Command -> its configuration, which also has settings of every run."""
NOT_OF_FIT = {"data_path", "ckpt_path", "resume", "figures"}
"""Fields of RunConfig without meaning for `fit`."""
SECTIONS = {
    "Images": ("aspect", "align", "roi", "tile", "overlap", "max_pixels"),
    "Machine": ("time_per_image", "device", "precision", "workers", "memory_budget"),
}
"""Heading in the help -> its fields; all others are under the default heading."""
METAVARS = {int: "N", float: "X", Path: "PATH", str: "NAME", ByteSize: "SIZE", AnySize: "SIZE", Duration: "T"}
"""Type -> placeholder of its value in the help."""
TEXTS = (ByteSize, AnySize, Duration)
"""Types whose text pydantic reads."""


def model_of(arguments: Sequence[str], usual: str) -> str:
    """The model that the arguments or their TOML file name, otherwise `usual`; raises BlemishError if it is unknown."""
    found = _value_of("--model", arguments)
    if found is None and (config := _value_of("--config", arguments)) is not None:
        found = read_toml(Path(config)).get("model")
    name = usual if found is None else found
    return RunConfig.create(model=name, data_path=".", ckpt_path=".").model


def _value_of(flag: str, arguments: Sequence[str]) -> str | None:
    for place, argument in enumerate(arguments, start=1):
        if argument == flag:
            return "".join(arguments[place : place + 1])
        if argument.startswith(f"{flag}="):
            return argument.partition("=")[2]
    return None


def run_flags(model: str) -> Flags:
    """A flag for each field of RunConfig, with the defaults of the model."""
    owned, has_epochs = _owned_defaults(model), is_trained(model)
    heading = {name: title for title, names in SECTIONS.items() for name in names}
    flags = {}
    for name, field in RunConfig.model_fields.items():
        if name != "options":
            default = owned.get(name, field.default)
            hidden = name in OF_TRAINING and not has_epochs  # but accepted by `train`
            flags[name] = _flag(name, field, default, heading.get(name), hidden=hidden)
    return flags


def fit_flags(model: str) -> Flags:
    """The flags of `fit`: those of `run_flags` without NOT_OF_FIT."""
    fields = RunConfig.model_fields
    others = {
        "model": _flag("model", fields["model"], model),
        "category": _flag("category", fields["category"], (), text="category of a data set; default: its only one"),
    }
    return {name: flag for name, flag in (run_flags(model) | others).items() if name not in NOT_OF_FIT}


def several_runs_flags(command: str) -> Flags:
    """A flag for each field of the command's configuration that fits a command line, and for each setting of a run."""
    of_files = ("settings", "approaches", "space")
    own = {name: field for name, field in OF_SEVERAL_RUNS[command].model_fields.items() if name not in of_files}
    if "maps" in own:
        text = "anomaly maps of another program, as NAME=FOLDER"
        own["maps"] = FieldInfo(annotation=tuple[str, ...], default=(), description=text)
    heading = {name: title for title, names in SECTIONS.items() for name in names}
    flags = {name: _flag(name, field, field.default) for name, field in own.items()}
    for name in SETTINGS:
        field = RunConfig.model_fields[name]
        flags[name] = _flag(name, field, field.default, heading.get(name, "Training"))
    return flags


def _owned_defaults(model: str) -> dict[str, Any]:
    """The defaults that the detector defines; imports torch."""
    from blemish.detectors.base import FeatureDetector

    detector = detector_class(model)
    options = {name: default for name, (_, default) in detector.option_fields().items() if default is not None}
    if issubclass(detector, FeatureDetector):
        options["size"] = f"{' or '.join(str(side) for side in SIZES)}, by the images' size"
    trained = {name: getattr(detector.settings, name) for name in OF_TRAINING}
    return {"model": model} | trained | options


def detector_flags(model: str) -> Flags:
    """A flag for each option of the model that is not a field of RunConfig; imports torch."""
    return {
        name: _flag(name, FieldInfo.from_annotation(annotation), default, f"Options of {model}")
        for name, (annotation, default) in detector_class(model).option_fields().items()
        if name not in RunConfig.model_fields
    }


def refuse_other_models(model: str, arguments: Sequence[str], known: Flags) -> None:
    """Raises BlemishError for an option that only another model has."""
    given = {argument.partition("=")[0].replace("-", "_").lstrip("_") for argument in arguments if argument[:2] == "--"}
    unknown = {name for name in given - set(known) if name not in RunConfig.model_fields}
    others = {name for other in DETECTORS if unknown for name in detector_class(other).option_fields()}
    if foreign := unknown & others:
        detector_class(model).create(**dict.fromkeys(foreign))


def with_flags(command: Command, fields: Flags, options: Flags) -> Callable[..., None]:
    """The command as a function with one keyword parameter per flag, as typer needs it."""
    config = _flag("config", FieldInfo(annotation=Path), None, text="TOML file with any of these; flags win over it")
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

    parameters = [*own, *fields.values(), config, *options.values()]
    parsed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    parsed.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    parsed.__doc__ = command.__doc__
    return parsed


def merged_settings(config_path: Path | None, fields: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run from the TOML file and the flags, which take precedence; options are under "options"."""
    from_file = read_toml(config_path) if config_path else {}
    return {**from_file, **fields, "options": {**from_file.get("options", {}), **options}}


def merged_several(
    command: str, config_path: Path | None, fields: dict[str, Any], read: Callable[[Path], dict[str, Any]]
) -> dict[str, Any]:
    """The settings of a command of OF_SEVERAL_RUNS from the TOML file, by `read`, and the flags, which take precedence.

    Raises BlemishError where the data or the output folder is missing.
    """
    known = OF_SEVERAL_RUNS[command].model_fields
    from_file = read(config_path) if config_path else {}
    own = {name: value for name, value in fields.items() if name in known}
    settings = {name: value for name, value in fields.items() if name not in own}
    merged = {**from_file, **own}
    if settings:
        given = from_file.get("settings", {})
        merged["settings"] = {**given, **settings} if isinstance(given, dict) else given
    for required in ("data_path", "out"):
        if required not in merged:
            raise BlemishError(f"--{dashed(required)} is missing: {known[required].description}.")
    return merged


def one_value_each(arguments: Sequence[str], flags: Flags) -> list[str]:
    """The arguments with `--layers 2 3` rewritten as `--layers 2 --layers 3`, as the parser needs it."""
    lists = {name for name, flag in flags.items() if get_args(flag.annotation)[0] == list[str] | None}
    found: list[str] = []
    current = ""
    for argument in arguments:
        if argument.startswith("--"):
            current = argument if argument[2:].replace("-", "_") in lists else ""
        elif current and found[-1] != current:
            found.append(current)
        found.append(argument)
    return found


def dashed(name: str) -> str:
    """The name with dashes, as the help shows it; the parser accepts both spellings."""
    return name.replace("_", "-")


def _flag(
    name: str,
    field: FieldInfo,
    default: Any,
    panel: str | None = None,
    *,
    text: str | None = None,
    hidden: bool = False,
) -> inspect.Parameter:
    is_switch = field.annotation in (bool, bool | None)
    names = f"--{dashed(name)}/--no-{dashed(name)}" if is_switch else f"--{dashed(name)}"
    facts = "; ".join(filter(None, (_allowed(field), _default(default))))
    described = f"{text or field.description} [{facts}]" if facts else text or field.description
    kind = _bare_type(field.annotation)
    metavar = None if is_switch else METAVARS.get(kind, "CHOICE")
    option = typer.Option(
        names, help=described, rich_help_panel=panel, show_default=False, metavar=metavar, hidden=hidden
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[_parsed_type(field.annotation), option],
    )


def _bare_type(annotation: Any) -> Any:
    """The type of a single value, such as float for `tuple[Annotated[float, ...], ...] | None`."""
    is_single = isinstance(annotation, type) and not get_args(annotation)
    if get_origin(annotation) is Literal or annotation == AnySize or is_single:
        return annotation
    inner = [part for part in get_args(annotation) if part not in (type(None), ...)]
    return _bare_type(inner[0])


def _parsed_type(annotation: Any) -> Any:
    """The type that typer parses; pydantic checks the range later, the same for flags and TOML."""
    if get_origin(annotation) is tuple:
        return list[str] | None
    if _bare_type(annotation) in TEXTS:
        return str | None
    return annotation | None if get_origin(annotation) is not Literal else annotation


def _allowed(field: FieldInfo) -> str:
    """The range of a number, or the choices, in words."""
    kind = _bare_type(field.annotation)
    if get_origin(kind) is Literal:
        *others, last = map(str, get_args(kind))
        return f"{', '.join(others)} or {last}"
    limits = _limits(field.metadata, field.annotation)
    low, above, high = limits.get("ge"), limits.get("gt"), limits.get("le", limits.get("lt", 0) - 1)
    several = f"multiples of {limits['multiple_of']}" if "multiple_of" in limits else ""
    if high >= 0:
        number = f"{low} to {high}" if above is None else f"more than {above}, up to {high}"
    else:
        number = f"{low} or more" if low is not None else f"more than {above}" if above is not None else ""
    return ", ".join(filter(None, (number, several)))


def _limits(metadata: Sequence[Any], annotation: Any) -> dict[str, Any]:
    """Name of a limit in pydantic -> its value; for a tuple the limits of its values, for an optional one its own."""
    if not metadata and get_origin(annotation) in (tuple, Union, UnionType):
        notes = getattr(get_args(annotation)[0], "__metadata__", ())
        return _limits([limit for note in notes for limit in getattr(note, "metadata", (note,))], None)
    names = ("ge", "gt", "le", "lt", "multiple_of")
    return {name: getattr(limit, name) for limit in metadata for name in names if hasattr(limit, name)}


def _default(default: Any) -> str:
    """The default in words; empty for None, which the description of the option explains."""
    if default is PydanticUndefined:
        return "required"
    if default is None or default == ():
        return ""
    return f"default: {format_default(default)}"
