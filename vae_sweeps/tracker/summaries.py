"""What TensorBoard shows of a run, as its `Summary` messages. Pure functions of the folder.

The same run gives the same bytes: `event_file` compares them to find out what a file already holds.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.scalar.metadata import create_summary_metadata
from tensorboard.plugins.text.summary_v2 import text_pb

from vae_sweeps.config import keys
from vae_sweeps.runs import catalogue
from vae_sweeps.runs.pictures import Picture
from vae_sweeps.runs.run_folder import STOPPED, RunFolder
from vae_sweeps.system import yaml_files
from vae_sweeps.tracker import view
from vae_sweeps.tracker.messages import hparams as hparams_pb
from vae_sweeps.tracker.messages import hparams_data as data_pb
from vae_sweeps.tracker.messages import summaries as summary_pb

# The section of the columns of the table. They have one of their own, since the names `train/elbo` and `val/elbo` are
# also those of curves. TensorBoard sorts sections by name, and this one does not come before the curves.
_TRAINED = "trained"
# The section of the numbers of a row that W&B shows without one, such as `lr` and `time_s`.
_OTHERS = "train"


def of_start(config: Mapping[str, Any], swept: Sequence[str], began: float) -> Any:
    """The swept values, for the tab HParams, and the config; `began` is in seconds since the epoch."""
    start = data_pb.SessionStartInfo(start_time_secs=began)
    for key in view.keys_of_title(swept):
        value = _hparam(config, key)
        if isinstance(value, float):
            start.hparams[key].number_value = value
        elif value is not None:
            start.hparams[key].string_value = value
    text = text_pb("config", f"```yaml\n{yaml_files.dump(dict(config))}```")
    return summary_pb.Summary(
        value=[_of_hparams(metadata.SESSION_START_INFO_TAG, session_start_info=start), *text.value]
    )


def of_row(folder: RunFolder, row: Mapping[str, Any]) -> Any:
    """The numbers of a row, its histograms, and its pictures; the last row has none, as the end has them."""
    content = view.history_row(row)
    del content["global_step"]
    summary = summary_pb.Summary()
    for name, value in content.items():
        tag = name if "/" in name else f"{_OTHERS}/{name}"
        if isinstance(value, list):
            summary.value.extend(histogram_pb(tag, np.array(value)).value)
        else:
            summary.value.add(tag=tag, simple_value=value)
    if row["step"] < row["num_steps"]:
        _add_pictures(summary, view.pictures_of_row(folder, row))
    return summary


def of_end(
    folder: RunFolder, result: Mapping[str, Any], swept: Sequence[str], last: Mapping[str, Any] | None, began: float
) -> Any:
    """The columns of the table, the pictures of the end, and for the tab HParams the outcome and the columns' names.

    `last` is the run's last row. A run that was stopped after an epoch with pictures has shown some of them there.
    """
    catalogue.declare(result)
    numbers = {name: value for name in view.summary(result) if (value := catalogue.number_of(result, name)) is not None}
    columns = [name for name in catalogue.in_table(numbers) if name in numbers]
    summary = summary_pb.Summary()
    for name in columns:
        about = create_summary_metadata("", _described(name))
        summary.value.add(tag=f"{_TRAINED}/{name}", simple_value=numbers[name], metadata=about)
    drawn = folder.pictures_at(None)
    pictures = {f"pictures/{name}": drawn[name] for name in catalogue.PICTURES if name in drawn}
    is_shown = last is not None and result["step"] == last["step"] < last["num_steps"]
    shown = view.pictures_of_row(folder, last) if is_shown and last is not None else {}
    _add_pictures(summary, {name: picture for name, picture in pictures.items() if name not in shown})
    if "test/elbo" in numbers:
        experiment = _experiment(view.keys_of_title(swept), columns, began)
        summary.value.append(_of_hparams(metadata.EXPERIMENT_TAG, experiment=experiment))
    is_success = result["status"] in ("done", STOPPED)
    status = hparams_pb.STATUS_SUCCESS if is_success else hparams_pb.STATUS_FAILURE
    end = data_pb.SessionEndInfo(status=status, end_time_secs=began + (result.get("time_s") or 0.0))
    summary.value.append(_of_hparams(metadata.SESSION_END_INFO_TAG, session_end_info=end))
    return summary


def _hparam(config: Mapping[str, Any], key: str) -> float | str | None:
    """The value of a swept key: a number only if the schema allows nothing else, so that all runs have one type."""
    value = view.value_of(config, key)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and keys.takes_numbers(key.replace("/", ".")) is not False:
        return float(value)
    return None if value is None else view.in_words(config, key)


def _experiment(hparams: Sequence[str], columns: Sequence[str], began: float) -> Any:
    """Which columns the tab HParams has; TensorBoard takes those of the first run that says so.

    Metrics are in the order of interest, and those that are seldom of interest are left out.
    """
    types = {True: hparams_pb.DATA_TYPE_FLOAT64, False: hparams_pb.DATA_TYPE_STRING, None: hparams_pb.DATA_TYPE_UNSET}
    return hparams_pb.Experiment(
        time_created_secs=began,
        hparam_infos=[
            hparams_pb.HParamInfo(name=key, type=types[keys.takes_numbers(key.replace("/", "."))]) for key in hparams
        ],
        metric_infos=[
            hparams_pb.MetricInfo(
                name=hparams_pb.MetricName(tag=f"{_TRAINED}/{name}"), display_name=name, description=_described(name)
            )
            for name in catalogue.by_interest(columns)
        ],
    )


def _described(column: str) -> str:
    """The label of a column with its unit, and what it is, as Markdown."""
    metric = catalogue.find(column)
    return f"**{catalogue.label(column)}**. {metric.about}" if metric is not None else column


def _of_hparams(tag: str, **content: Any) -> Any:
    data = data_pb.HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION, **content)
    about = metadata.create_summary_metadata(data)
    about.plugin_data.content = data.SerializeToString(deterministic=True)
    return summary_pb.Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)


def _add_pictures(summary: Any, pictures: Mapping[str, Picture]) -> None:
    """Add the files as they are; a picture that cannot be read is left out."""
    for tag, picture in pictures.items():
        try:
            content = picture.read()
            with Image.open(io.BytesIO(content)) as image:
                (width, height), channels = image.size, len(image.getbands())
        except (OSError, ValueError):
            continue
        shown = summary_pb.Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=content)
        summary.value.add(tag=tag, image=shown)
