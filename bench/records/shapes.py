"""The shape of every kind of record: its keys and their types, which are checked when a record is read.

A key that is not declared here, such as one of a later version, is let through. A key that early records lack is marked
``NotRequired``.
"""

import base64
import binascii
import math
import sys
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from bench.records.lines import LineKind, Outcome, Record

Whole = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1, lt=2**63)]
Amount = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Cosine = Annotated[float, Field(ge=-1.0001, le=1.0001)]
Angle = Annotated[float, Field(ge=0, le=180)]
Numbers = list[float]


def _fields(values: dict[str, Any]) -> dict[str, Any]:
    for name, value in values.items():
        if isinstance(value, int) and abs(value) > sys.float_info.max:
            raise ValueError(f"{name} is larger than any float")
    return values


Fields = Annotated[dict[str, Any], AfterValidator(_fields)]


def _moment(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("it names no time zone")
    return text


Moment = Annotated[str, AfterValidator(_moment)]
"""A date with a time, in the ISO format."""
Config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

Status = Literal[
    "OK", "SMALL_R", "TAIL_WARNING", "FEW_FOR_TAIL", "RARE_LARGE_VALUES", "HEAVY_TAIL",
    "INFINITE_VARIANCE_SUSPECTED", "DEGENERATE",
]  # fmt: skip
Verdict = Literal[
    "UNBIASED_WITHIN_TOL", "BIASED_WITHIN_TOL", "BIASED", "INCONCLUSIVE", "UNRELIABLE", "DEGENERATE", "EXACT",
    "EXACT_WITHIN_TOL", "DETERMINISTIC_BIASED", "NO_REFERENCE",
]  # fmt: skip
Direction = Literal["unbiased", "scaled", "turned", "undecided", "points away"]
Flag = Literal["AT_FLOAT_RESOLUTION", "REFERENCE_NOISE", "DISCRETE_TAIL", "STUCK_COORDINATE"]


@with_config(ConfigDict(extra="forbid", strict=True))
class ArrayFile(TypedDict):
    """What a record holds in place of a long vector: the name of the file that has the vector."""

    array: str


Vector = Numbers | ArrayFile


@with_config(Config)
class Every(TypedDict):
    """The keys that every record has."""

    schema: Whole
    kind: str
    run: str
    code: str
    objective: str
    objective_name: str
    objective_params: Fields
    objective_contents: NotRequired[dict[str, str]]
    outcome: Literal["measured", "skipped", "failed", "diverged"]
    reason: str | None
    environment: dict[str, Any]
    written: NotRequired[Moment]


@with_config(Config)
class Head(Every):
    """The keys of every record that is about a cell, an estimator on an objective."""

    cell: str
    estimator: str
    estimator_name: str
    estimator_params: Fields
    family: str
    dim: Whole
    shared: NotRequired[list[str]]
    unbiased: bool
    deterministic: bool
    dtype: Literal["float32", "float64"]
    device: str
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    common_noise: bool
    replicates: Whole
    precision: NotRequired[Annotated[float, Field(gt=0)] | None]
    precision_reached: NotRequired[bool | None]


@with_config(Config)
class Group(TypedDict):
    """The statistics of one tensor of theta."""

    size: Count
    variance: Amount | None
    variance_low: Amount | None
    variance_high: Amount | None
    status: Status


@with_config(Config)
class Summary(TypedDict):
    """The statistics of a cell, an estimator on an objective. ``bench.stats.summary.Summary`` explains every key."""

    replicates: Count
    size: Count
    blocks: Count
    confidence: Share
    tolerance: Amount
    dtype: str
    variance: Amount | None
    variance_low: Amount
    variance_high: Amount | None
    se_log: Amount | None
    cv2: Amount | None
    skewness: float | None
    kurtosis: float | None
    nu: Amount | None
    rho: Amount | None
    trace_square: float | None
    khat: float | None
    status: Status
    mean_norm: Amount
    unseen: NotRequired[float | None]
    flags: list[Flag]
    exact_norm: Amount | None
    bias_norm: Amount | None
    bias_squared: float | None
    bias_bound: Amount | None
    bias_low: Amount | None
    relative_bias_bound: Amount | None
    bias_per_sd_bound: Amount | None
    p_bias: Share | None
    p_max: NotRequired[Share | None]
    p_sum: NotRequired[Share | None]
    p_projection: NotRequired[Share | None]
    verdict: Verdict
    replicates_needed: NotRequired[Amount | None]
    stuck_coordinates: NotRequired[list[Whole]]
    stuck_count: NotRequired[Whole]
    mse: float | None
    mse_low: float | None
    mse_high: float | None
    snr: Amount | None
    snr_low: NotRequired[float | None]
    snr_high: NotRequired[float | None]
    cosine: Cosine | None
    cosine_low: NotRequired[Cosine | None]
    cosine_high: NotRequired[Cosine | None]
    zero_rows: NotRequired[Whole | None]
    followed: NotRequired[Whole | None]
    alignment: NotRequired[float | None]
    scale: NotRequired[float | None]
    scale_low: NotRequired[float | None]
    scale_high: NotRequired[float | None]
    gain: NotRequired[float | None]
    gain_low: NotRequired[float | None]
    gain_high: NotRequired[float | None]
    angle: NotRequired[Angle | None]
    angle_low: NotRequired[Angle | None]
    angle_high: NotRequired[Angle | None]
    p_direction: NotRequired[Share | None]
    direction: NotRequired[Direction | None]
    cut: NotRequired[float | None]
    truncated_at: NotRequired[float | None]
    truncated_mean: NotRequired[float | None]
    truncated_cv2: NotRequired[float | None]
    float_floor: NotRequired[Amount]
    groups: NotRequired[dict[str, Group]]


@with_config(Config)
class Moments(TypedDict):
    """Count and mean of a series of numbers or vectors, and the sums of its second to fourth centred powers."""

    n: Whole
    mean: float | Vector
    M2: float | Vector
    M3: NotRequired[float | Vector | None]
    M4: NotRequired[float | Vector | None]


@with_config(Config)
class Sums(TypedDict):
    """The sums from which a cell's statistics are computed. ``bench.stats.sums.Sums`` explains every key."""

    groups: NotRequired[dict[str, Whole]]
    replicates: NotRequired[Count]
    centre: NotRequired[Vector]
    coordinate: NotRequired[Moments]
    shape: NotRequired[Moments]
    w: NotRequired[Moments]
    w_top: NotRequired[Vector]
    group_w: NotRequired[dict[str, Moments]]
    group_top: NotRequired[dict[str, Vector]]
    block_rows: Vector
    block_w: Vector
    traces: NotRequired[Vector]
    error: NotRequired[Moments | None]
    error_top: NotRequired[Vector | None]
    projection: NotRequired[Moments | None]
    across_M2: NotRequired[Vector | None]
    across_traces: NotRequired[Vector | None]
    cosine: NotRequired[Moments | None]
    zero_rows: NotRequired[Whole]
    truncated: NotRequired[Moments | None]
    truncate_at: NotRequired[float | None]
    martingale_T: NotRequired[float]
    martingale_Q: NotRequired[float]
    martingale_terms: NotRequired[Whole]
    across_T: NotRequired[float]
    across_Q: NotRequired[float]
    cut: NotRequired[float | None]
    followed: NotRequired[Whole]
    block_error: NotRequired[Vector | None]
    block_projection: NotRequired[Vector | None]
    block_group_w: NotRequired[dict[str, Vector]]


@with_config(Config)
class MeasuredMoments(Head):
    """The keys of a moments record: bias, variance and the other statistics of a cell."""

    n: Any
    size: Count
    blocks: Count
    f_evals: Amount
    grad_evals: Amount
    adapt_steps: Whole
    adapt_seconds: Amount
    adapt_f_evals: Amount
    adapt_settled: NotRequired[bool | None]
    wall_seconds: Amount
    fingerprint: NotRequired[str]
    exact: Vector | None
    mean: Vector
    summary: Summary
    sums: Sums


@with_config(Config)
class MeasuredTiming(Head):
    """The keys of a timing record: seconds, cost and memory of a cell."""

    seconds: Amount
    seconds_low: Amount
    seconds_high: Amount
    latency_seconds: Amount
    latency_seconds_low: Amount
    latency_seconds_high: Amount
    cost: Amount
    cost_low: Amount
    cost_high: Amount
    noisy: bool
    peak_bytes: Whole | None


@with_config(Config)
class MeasuredReference(Head):
    """The keys of a reference record: a measured mean gradient, for an objective without an exact gradient."""

    mean: Vector
    standard_error: Amount
    summary: Summary


@with_config(Config)
class MeasuredPilot(Head):
    """The keys of a pilot record: the number of replicates that a cell needs for the wanted precision."""

    pilot_replicates: Count
    planned_replicates: Count
    leads_to: NotRequired[str]


@with_config(Config)
class MeasuredObjective(Every):
    """The keys of the record of a user's objective: the checks that it has passed, and its ``row_elements``.

    ``row_elements`` is the number of elements in the largest tensor of one estimate.
    """

    row_elements: Count
    checks: list[str]


@with_config(Config)
class Curves(TypedDict):
    """The results of a training run, each a list with one entry per checkpoint."""

    step: list[Whole]
    value: list[float | None]
    value_error: NotRequired[list[Amount | None]]
    training_value: list[float | None]
    training_seconds: list[Amount]
    variance: NotRequired[list[Amount | None]]
    variance_low: NotRequired[list[Amount | None]]
    variance_high: NotRequired[list[Amount | None]]
    variance_status: NotRequired[list[Status | None]]


@with_config(Config)
class Picture(TypedDict):
    """Grey images: the shape of their stack, and all pixels as bytes in base 64."""

    shape: list[Whole]
    grey: str


@with_config(Config)
class Trained(Head):
    """The keys of a training record: a training run that was completed, or that has diverged."""

    steps: Count
    optimizer: str
    learning_rate: Amount
    looks: Annotated[list[Whole], Field(min_length=1)]
    maximise: bool
    held_out: bool
    exact_value: bool
    batch: Count
    f_evals: Amount
    grad_evals: Amount
    adapt_f_evals: Amount
    curves: Curves
    weights_digest: NotRequired[str]
    pictures: NotRequired[dict[str, Picture] | None]


DONE: dict[LineKind, type] = {
    LineKind.MOMENTS: MeasuredMoments,
    LineKind.TIMING: MeasuredTiming,
    LineKind.REFERENCE: MeasuredReference,
    LineKind.PILOT: MeasuredPilot,
    LineKind.OBJECTIVE: MeasuredObjective,
    LineKind.TRAINING: Trained,
}
"""The shape of the records of each kind whose work has led to results."""


class Misshapen(Exception):
    """A record does not have the shape of its kind. The message names the key."""


def check(record: Record) -> None:
    """Check that a record has the keys of its kind, with values of the right types.

    In place of its long vectors, the record must have the names of their files, as in the study folder.

    Raises:
        Misshapen: a key is missing, or its value does not fit this kind of record.
    """
    kind, outcome = record["kind"], record.get("outcome")
    if not isinstance(kind, str) or kind not in DONE:
        raise Misshapen(f"kind: one of {', '.join(LineKind)} is needed (got {str(kind)[:50]!r})")
    done = outcome in (Outcome.MEASURED, Outcome.DIVERGED)
    shape = DONE[LineKind(kind)] if done else Every if kind == LineKind.OBJECTIVE else Head
    try:
        _adapter(shape).validate_python(record)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise Misshapen(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    _need("precision", kind != LineKind.PILOT or bool(record.get("precision")), "a pilot needs one")
    _need("reason", outcome == Outcome.MEASURED or bool(record["reason"]), f"a record that is {outcome} needs one")


def check_lengths(record: Record) -> None:
    """Check that the vectors and lists of a record have the right lengths.

    The record must have passed ``check``, and its long vectors must have been read from their files.

    Raises:
        Misshapen: two lengths differ that must be equal, or a list cannot be right, such as steps that do not increase.
    """
    if record["kind"] == LineKind.MOMENTS and record["outcome"] == Outcome.MEASURED:
        for key in ("mean", "exact"):
            _need(key, record[key] is None or len(record[key]) == record["size"], "its length is not `size`")
        rows, w = record["sums"]["block_rows"], record["sums"]["block_w"]
        _need("sums.block_w", len(rows) == len(w) > 0, "its length is not that of block_rows")
        whole = min(rows) > 0 and math.isclose(sum(rows), record["replicates"])
        _need("sums.block_rows", whole, "blocks have at least one row each, and `replicates` in all")
    if record["kind"] == LineKind.TRAINING and record["outcome"] in (Outcome.MEASURED, Outcome.DIVERGED):
        curves, looks = record["curves"], record["looks"]
        count = len(curves["step"])
        for key, values in curves.items():
            _need(
                f"curves.{key}", not isinstance(values, list) or len(values) == count, "its length is not that of step"
            )
        _need("curves.step", 0 < count <= len(looks), "there is not one for each of the looks")
        _need("looks", looks == sorted(set(looks)), "they do not increase")
        for name, picture in (record.get("pictures") or {}).items():
            _check_picture(f"pictures.{name}", picture)


def _check_picture(key: str, picture: Record) -> None:
    try:
        size = len(base64.b64decode(picture["grey"], validate=True))
    except (binascii.Error, ValueError):
        raise Misshapen(f"{key}.grey: it is not in base 64") from None
    shape = picture["shape"]
    _need(f"{key}.shape", len(shape) >= 2 and math.prod(shape) == size > 0, "it does not fit the bytes in grey")


def _need(key: str, holds: bool, otherwise: str) -> None:
    if not holds:
        raise Misshapen(f"{key}: {otherwise}")


@cache
def _adapter(shape: type) -> TypeAdapter[Any]:
    return TypeAdapter(shape)
