"""A user's own model becomes a version bundle: an ONNX graph, or safetensors of a known architecture.

An ONNX graph may take `uint8 (B, H, W, 3)` as our own graphs do, or normalised float pixels
`(B, 3, H, W)` with the preprocessing told beside it; what is missing (casts, layout, scaling, mean,
standard deviation, unit length) is put around it, so that it is served like any other version.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image

from vitrine import plugins
from vitrine.bundle import Bundle, file_ref, write_bundle
from vitrine.errors import BadInput, NotFound
from vitrine.export import (
    EMBEDDING,
    GRAPH_FILE,
    LABELS_FILE,
    LOGITS,
    PIXELS,
    export_version,
    pixels_spec,
    strip,
)
from vitrine.files import read_json, write_json
from vitrine.graph_surgery import (
    PixelInput,
    check_opset,
    keep_outputs,
    make_batch_dynamic,
    pixel_input,
    wrap_input,
)
from vitrine.images import ImageSpec
from vitrine.manifest import Graph, Labels, Licences, Manifest, TensorSpec
from vitrine.params import read_params
from vitrine.parity import check_parity, run_onnx
from vitrine.ports import Backbone, BackboneSpec

PICKLED = {".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt"}
_PROBES = 12


@dataclass(frozen=True)
class Preprocessing:
    """What a float graph expects: the photo's size, and mean and std of pixels scaled to [0, 1]."""

    image: ImageSpec
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def intake(
    path: Path,
    *,
    work: Path,
    preprocessing: Path | None = None,
    labels: Path | None = None,
    family: str | None = None,
    architecture: str | None = None,
    image_size: int | None = None,
    licence_weights: str = "unknown",
    licence_data: str = "unknown",
) -> Bundle:
    """Make a bundle of a user's model in the folder `work`, checked on generated photos.

    Args:
        path: an `.onnx` or a `.safetensors` file.
        work: the bundle folder to write.
        preprocessing: YAML or JSON `{"height", "width", "mean", "std", "resize"?, "crop_fraction"?, "interpolation"?}`.
        labels: JSON list of label strings, one a column of the second output.
        family: of safetensors weights, such as `timm`.
        architecture: of safetensors weights, in the family's own words.
        image_size: side in pixels for safetensors weights; the architecture's own without.
        licence_weights: licence of the model.
        licence_data: licence of the photos that it was trained on.

    Raises:
        NotFound: no such file.
        BadInput: a pickled format, a graph that cannot be an image encoder, or something is not told.
        Refused: the graph with optimisations gives other vectors than without.
    """
    _check_kind(path)
    licences = Licences(licence_weights, licence_data)
    if path.suffix.lower() == ".safetensors":
        spec = _weights_spec(path, family, architecture, image_size, licence_weights)
        return _from_weights(spec, licences, work)
    return _from_onnx(path, preprocessing, labels, licences, work)


def _check_kind(path: Path) -> None:
    if path.suffix.lower() in PICKLED:
        raise BadInput(
            f"{path.name} is a pickled format, which can run code when it is read, and is refused; "
            "give an .onnx file (torch.onnx.export) or a .safetensors file (safetensors.torch.save_file)"
        )
    if path.suffix.lower() not in {".onnx", ".safetensors"}:
        raise BadInput(f"{path.name} is no model file that can be registered; give an .onnx or a .safetensors file")
    if not path.is_file():
        raise NotFound(f"no model file at {path}")


def read_preprocessing(path: Path) -> Preprocessing:
    """Read and check a preprocessing file.

    Raises:
        NotFound: no such file.
        BadInput: unknown, missing or impossible values.
    """
    if not path.is_file():
        raise NotFound(f"no preprocessing file at {path}")
    raw = read_params(path)
    wanted = {"height", "width", "mean", "std"}
    known = wanted | {"resize", "crop_fraction", "interpolation", "fill"}
    if not wanted <= set(raw) <= known:
        raise BadInput(
            f"{path} must be a mapping with {', '.join(sorted(wanted))} and perhaps {', '.join(sorted(known - wanted))}"
        )
    mean, std = (_three(raw[name], f"{path}: {name}") for name in ("mean", "std"))
    if min(std) <= 0 or max(*mean, *std) > 5:
        raise BadInput(
            f"{path}: mean and std are those of pixels scaled to [0, 1], such as 0.485 and 0.229, not {mean} and {std}"
        )
    try:
        image = ImageSpec(**{key: value for key, value in raw.items() if key not in {"mean", "std"}})
    except TypeError as error:
        raise BadInput(f"{path}: {error}") from error
    return Preprocessing(image, mean, std)


def _weights_spec(
    path: Path, family: str | None, architecture: str | None, image_size: int | None, licence: str
) -> BackboneSpec:
    if not family or not architecture:
        raise BadInput(
            f"{path.name} holds weights but no network; say which: --family timm --architecture resnet50 "
            f"(families: {', '.join(plugins.names('families'))})",
            field="architecture",
        )
    return BackboneSpec(family, architecture, f"file:{path}", image_size, licence)


def _from_weights(spec: BackboneSpec, licences: Licences, work: Path) -> Bundle:
    backbone: Backbone = plugins.load("families", spec.family).load(spec)
    photos = [_png(pixels) for pixels in _probe_photos(backbone.image.height, backbone.image.width)]
    lineage = {"strategy": "imported", "backbone": spec.architecture, "family": spec.family}
    return export_version(work, backbone, photos=photos, licences=licences, lineage=lineage)


def _from_onnx(path: Path, preprocessing: Path | None, labels: Path | None, licences: Licences, work: Path) -> Bundle:
    model = _read_model(path)
    given = pixel_input(model, path.name)
    told = _preprocessing(given, read_preprocessing(preprocessing) if preprocessing else None, path.name)
    names = _label_names(labels)
    make_batch_dynamic(model)
    size = (told.image.height, told.image.width)
    pixels = _probe_photos(*size)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        wrapped = wrap_input(model, given, size, told.mean, told.std, PIXELS)
        columns = _choose_outputs(wrapped, pixels, names, path.name)
        (folder / GRAPH_FILE).write_bytes(strip(wrapped))
        plain = run_onnx(folder / GRAPH_FILE, pixels, optimise=False)[0]
        parity = check_parity(
            plain, run_onnx(folder / GRAPH_FILE, pixels)[0], against="the same graph run node by node", what=path.name
        )
        manifest = Manifest(
            graphs={"image": Graph(file_ref(folder, GRAPH_FILE), (pixels_spec(*size),), _specs(columns))},
            dim=columns[0],
            image=told.image,
            licences=licences,
            labels=_write_labels(folder, names),
        )
        files = {ref.path: folder / ref.path for ref in manifest.files()}
        return write_bundle(work, manifest, files, {"strategy": "imported", "backbone": path.stem}, parity)


def _read_model(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except FileNotFoundError as error:
        raise BadInput(
            f"{path.name} keeps its weights in another file that is not there: {error}; put it beside it"
        ) from error
    except Exception as error:  # protobuf's, the checker's and shape inference's errors share no base class
        raise BadInput(f"{path} is no valid ONNX model: {(str(error).splitlines() or ['unreadable'])[0]}") from error
    check_opset(model, path.name)
    return model


def _preprocessing(given: PixelInput, told: Preprocessing | None, what: str) -> Preprocessing:
    """What was told, checked against the graph; a uint8 graph of fixed size needs nothing told."""
    if told is None:
        if given.layout == "float NCHW" or given.height is None or given.width is None:
            raise BadInput(
                f"{what} does not say how photos are prepared for it; give a JSON file with height, width, mean and std, or YAML: "
                "--preprocess FILE",
                field="preprocessing",
            )
        return Preprocessing(ImageSpec(given.height, given.width), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    wanted, told_size = (given.height, given.width), (told.image.height, told.image.width)
    if any(fixed not in (None, size) for fixed, size in zip(wanted, told_size, strict=True)):
        raise BadInput(
            f"{what} takes {wanted[0]}x{wanted[1]} pixels, the preprocessing file says {told_size[0]}x{told_size[1]}"
        )
    return told


def _choose_outputs(
    model: onnx.ModelProto, pixels: NDArray[np.uint8], names: Sequence[str] | None, what: str
) -> list[int]:
    """Keep the first output of rank 2 as the embedding and, with labels, the second as logits; their widths."""
    try:
        session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        found = [session.run(None, {PIXELS: pixels[:count]}) for count in (1, 3)]
    except Exception as error:  # ONNX Runtime raises its own kinds, which share no public base class
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(
            f"{what} does not run on batches of 1 and 3 photos ({reason}); export it with a dynamic batch"
        ) from error
    own = [output.name.removeprefix("wrapped/") for output in session.get_outputs()]
    ranks = {name: value.shape for name, value in zip(own, found[1], strict=True)}
    flat = [(name, value) for name, value in zip(own, found[1], strict=True) if value.ndim == 2 and len(value) == 3]
    wanted = 1 if names is None else 2
    if len(flat) < wanted:
        raise BadInput(
            f"{what} gives {ranks}; needed: an output of shape (B, D){', and one (B, C) for the labels' if names else ''}. "
            "Pool and flatten features in the exported graph"
        )
    if names is not None and flat[1][1].shape[1] != len(names):
        raise BadInput(
            f"{what} gives {flat[1][1].shape[1]} logits, the label file has {len(names)} labels", field="labels"
        )
    unit = bool(np.allclose(np.linalg.norm(flat[0][1].astype(np.float64), axis=1), 1, atol=1e-3))
    chosen = [(flat[0][0], EMBEDDING, flat[0][1].shape[1], not unit)]
    chosen += [(name, LOGITS, value.shape[1], False) for name, value in flat[1:wanted]]
    keep_outputs(model, chosen)
    return [columns for _, _, columns, _ in chosen]


def _specs(columns: Sequence[int]) -> tuple[TensorSpec, ...]:
    embedding = TensorSpec(EMBEDDING, "embedding", "float32", ("batch", columns[0]))
    logits = [TensorSpec(LOGITS, "logits", "float32", ("batch", width)) for width in columns[1:]]
    return embedding, *logits


def _label_names(path: Path | None) -> list[str] | None:
    if path is None:
        return None
    names = read_json(path, "label file")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise BadInput(
            f"{path} must be a JSON list of different label strings, in the order of the logits", field="labels"
        )
    return names


def _write_labels(folder: Path, names: Sequence[str] | None) -> Labels | None:
    if names is None:
        return None
    write_json(folder / LABELS_FILE, list(names))
    return Labels(file_ref(folder, LABELS_FILE))


def _probe_photos(height: int, width: int) -> NDArray[np.uint8]:
    """Generated photos `uint8 (12, H, W, 3)`: coarse colour fields, fine noise, the same every time."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (_PROBES, 4, 4, 3)).repeat(-(-height // 4), axis=1).repeat(-(-width // 4), axis=2)
    noise = random.integers(-24, 25, (_PROBES, height, width, 3))
    photos: NDArray[np.uint8] = (coarse[:, :height, :width] + noise).clip(0, 255).astype(np.uint8)
    return photos


def _png(pixels: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def _three(values: Any, where: str) -> tuple[float, float, float]:
    if not isinstance(values, list) or len(values) != 3 or not all(isinstance(value, int | float) for value in values):
        raise BadInput(f"{where} must be three numbers, one a colour, not {values!r}")
    red, green, blue = (float(value) for value in values)
    return red, green, blue
