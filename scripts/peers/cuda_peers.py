#!/usr/bin/env python3
"""What PyTorch takes for the work that `cargo xtask bench cuda` times, on the same device in the same run.

Reads one JSON object from standard input and writes one JSON object per line: a timing, or what was left out and why.
Needs torch and nothing else (not torchvision, not safetensors). The request, all of it optional but `weights`:

    weights   checkpoint of a ResNet under torchvision's names, safetensors; batch normalisation folded into biases or not
    arch      "wide_resnet50_2" (default), "resnet50", "resnet18", "resnet34"
    images    safetensors file with `images` [n, 3, h, w], for the comparison of outputs
    outputs   file for its `layer2`, `layer3` [n, c, h, w] and `rows` [n h w, c2 + c3], f32 and (name + ".bf16") bf16
    batches   [1, 8, 64]
    side      224
    rounds    100
    seconds   75: nothing new is begun after that
    only      of "ceilings", "features", "step", "maps", "outputs"

A timing: subject, model, engine, precision, batch, rounds, p50_ms, p99_ms, best_ms. Events on the device's clock, after
warming up. Engines: "torch" eager; "torch.compile" (inductor, default mode); "... + graph": the same replayed as one CUDA
graph, which is what mode="reduce-overhead" adds.
"""

import json
import math
import struct
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

START = time.perf_counter()
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}

# torchvision's: blocks to layer3, bottleneck, width of a group.
ARCHS = {
    "resnet18": ((2, 2, 2), False, 64),
    "resnet34": ((3, 4, 6), False, 64),
    "resnet50": ((3, 4, 6), True, 64),
    "wide_resnet50_2": ((3, 4, 6), True, 128),
}


def say(**fields):
    print(json.dumps(fields), flush=True)


# ------------------------------------------------------------------------------------------------------ files


def read_safetensors(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = bytearray(file.read())
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        kind = DTYPES[entry["dtype"]]
        tensor = torch.frombuffer(data[begin:end], dtype=kind) if end > begin else torch.empty(0, dtype=kind)
        tensors[name] = tensor.reshape(entry["shape"])
    return tensors


def write_safetensors(path, tensors):
    header, parts, at = {}, [], 0
    for name, tensor in tensors.items():
        part = tensor.detach().float().cpu().contiguous().numpy().tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [at, at + len(part)]}
        parts.append(part)
        at += len(part)
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(parts))


# ---------------------------------------------------------------------------------------------------- network


def norm(channels, folded):
    """Batch normalisation, or nothing where the checkpoint has it folded."""
    return nn.Identity() if folded else nn.BatchNorm2d(channels)


class Block(nn.Module):
    def __init__(self, inputs, planes, width, stride, bottleneck, folded):
        super().__init__()
        conv = lambda i, o, k, s: nn.Conv2d(i, o, k, s, k // 2, bias=folded)
        outputs = planes * 4 if bottleneck else planes
        if bottleneck:
            self.conv1, self.bn1 = conv(inputs, width, 1, 1), norm(width, folded)
            self.conv2, self.bn2 = conv(width, width, 3, stride), norm(width, folded)
            self.conv3, self.bn3 = conv(width, outputs, 1, 1), norm(outputs, folded)
        else:
            self.conv1, self.bn1 = conv(inputs, outputs, 3, stride), norm(outputs, folded)
            self.conv2, self.bn2 = conv(outputs, outputs, 3, 1), norm(outputs, folded)
        self.bottleneck = bottleneck
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(conv(inputs, outputs, 1, stride), norm(outputs, folded))

    def forward(self, x):
        skip = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.bn2(self.conv2(x))
        if self.bottleneck:
            x = self.bn3(self.conv3(F.relu(x, inplace=True)))
        return F.relu(x + skip, inplace=True)


class Network(nn.Module):
    """A ResNet to layer3; returns layer2 and layer3."""

    def __init__(self, arch, folded):
        super().__init__()
        blocks, bottleneck, base = ARCHS[arch]
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=folded), norm(64, folded)
        inputs = 64
        for index, count in enumerate(blocks):
            planes, width = 64 << index, base << index
            layer = []
            for block in range(count):
                stride = 2 if block == 0 and index > 0 else 1
                layer.append(Block(inputs, planes, width, stride, bottleneck, folded))
                inputs = planes * 4 if bottleneck else planes
            setattr(self, f"layer{index + 1}", nn.Sequential(*layer))

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x)), inplace=True), 3, 2, 1)
        second = self.layer2(self.layer1(x))
        return second, self.layer3(second)


def load(arch, path):
    tensors = read_safetensors(path)
    folded = not any(".running_mean" in name for name in tensors)
    network = Network(arch, folded)
    wanted = network.state_dict()
    network.load_state_dict({name: tensors[name] for name in wanted if not name.endswith("num_batches_tracked")}, strict=False)
    missing = [name for name in wanted if name not in tensors and not name.endswith("num_batches_tracked")]
    if missing:
        sys.exit(f"{path} has no tensor {missing[0]} ({len(missing)} are missing)")
    return network.eval().requires_grad_(False)


def rows(second, third):
    """Eq. 1-3: mean over 3x3 neighbourhoods, layer3 to layer2's grid, channels together: [n h w, c]."""
    second, third = F.avg_pool2d(second, 3, 1, 1), F.avg_pool2d(third, 3, 1, 1)
    third = F.interpolate(third, size=second.shape[-2:], mode="bilinear", align_corners=False)
    both = torch.cat([second, third], 1)
    return both.permute(0, 2, 3, 1).reshape(-1, both.shape[1]).float()


# ----------------------------------------------------------------------------------------------------- timing


def left(request):
    return request.get("seconds", 75) - (time.perf_counter() - START)


def tf32(on):
    torch.backends.cuda.matmul.allow_tf32 = on
    torch.backends.cudnn.allow_tf32 = on


def measure(work, rounds, per=1):
    """Milliseconds: p50, p99, best and the number of rounds; `per` things are done in one round."""
    for _ in range(3):
        work()
    if DEVICE.type != "cuda":
        times = []
        for _ in range(rounds):
            begin = time.perf_counter()
            work()
            times.append((time.perf_counter() - begin) * 1e3)
    else:
        torch.cuda.synchronize()
        # As many rounds as fit in about half a second.
        begin = time.perf_counter()
        work()
        torch.cuda.synchronize()
        rounds = max(5, min(rounds, int(0.5 / max(time.perf_counter() - begin, 1e-5))))
        moments = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(rounds)]
        for begin, end in moments:
            begin.record()
            work()
            end.record()
        torch.cuda.synchronize()
        times = [begin.elapsed_time(end) for begin, end in moments]
    times = sorted(value / per for value in times)
    last = len(times) - 1
    return {"rounds": len(times), "p50_ms": times[last // 2], "p99_ms": times[math.ceil(last * 99 / 100)], "best_ms": times[0]}


def captured(work):
    """`work` as one CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def attempt(request, fields, prepare, per=1):
    """Times what `prepare` returns; a failure or lack of time is said and does not stop the rest. Returns it."""
    if left(request) <= 0:
        return say(**fields, skipped="no time left")
    try:
        work = prepare()
        say(**fields, **measure(work, request.get("rounds", 100), per))
        return work
    except Exception as error:  # torch.compile fails in many ways where a compiler or a library is missing
        say(**fields, error=f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}")
        return None


# --------------------------------------------------------------------------------------------------- subjects


def ceilings(request):
    side, count = (8192, 1 << 29) if DEVICE.type == "cuda" else (512, 1 << 20)
    source, target = torch.randn(count, device=DEVICE), torch.empty(count, device=DEVICE)
    fields = {"subject": "copy", "model": f"{count * 4 / 2**30:g} GiB within the device", "engine": "torch", "precision": "bytes", "batch": 1}
    attempt(request, fields, lambda: lambda: target.copy_(source))
    del source, target
    for precision in ("bf16", "tf32", "f32"):
        tf32(precision == "tf32")
        kind = torch.bfloat16 if precision == "bf16" else torch.float32
        a, b = (torch.randn(side, side, device=DEVICE).to(kind) for _ in range(2))
        fields = {"subject": "matrix product", "model": f"{side}×{side}×{side}", "engine": "torch", "precision": precision, "batch": 1}
        attempt(request, fields, lambda: lambda: a @ b.t())
    tf32(False)


def features(request):
    arch = request.get("arch", "wide_resnet50_2")
    side = request.get("side", 224)
    plain = load(arch, request["weights"]).to(DEVICE)
    narrow = load(arch, request["weights"]).to(DEVICE, torch.bfloat16, memory_format=torch.channels_last)
    fields = {"model": f"{arch} to layer3"}
    images = {}
    for batch in request.get("batches", [1, 8, 64]):
        images[batch] = torch.randn(batch, 3, side, side, device=DEVICE)
        last = images[batch].to(torch.bfloat16, memory_format=torch.channels_last)
        for precision, network, x in (("f32", plain, images[batch]), ("tf32", plain, images[batch]), ("bf16", narrow, last)):
            tf32(precision == "tf32")
            engine = {"engine": "torch channels_last" if precision == "bf16" else "torch", "precision": precision, "batch": batch}
            for subject, work in (("backbone", lambda: network(x)), ("features", lambda: rows(*network(x)))):
                attempt(request, {"subject": subject, **fields, **engine}, lambda: work)
    tf32(False)

    def compiled(batch):
        engine = {"subject": "features", **fields, "precision": "bf16", "batch": batch}
        last = images[batch].to(torch.bfloat16, memory_format=torch.channels_last)

        def prepare():
            torch.compiler.reset()
            run = torch.compile(lambda x: rows(*narrow(x)), dynamic=False)
            return lambda: run(last)

        with torch.no_grad():
            work = attempt(request, {**engine, "engine": "torch.compile"}, prepare)
            if work and DEVICE.type == "cuda":
                attempt(request, {**engine, "engine": "torch.compile + graph"}, lambda: captured(work))

    return [(2 if batch == 8 else 0, lambda batch=batch: compiled(batch)) for batch in images]


class Head(nn.Module):
    """Adaptor without bias, and discriminator, as in the paper."""

    def __init__(self, dim, hidden):
        super().__init__()
        self.adaptor = nn.Linear(dim, dim, bias=False)
        self.hidden, self.norm, self.output = nn.Linear(dim, hidden), nn.BatchNorm1d(hidden), nn.Linear(hidden, 1, bias=False)
        for layer in (self.adaptor, self.hidden, self.output):
            nn.init.xavier_normal_(layer.weight)

    def loss(self, features, sigma):
        normal = self.adaptor(features)
        noised = normal + sigma * torch.randn_like(normal)
        scores = self.output(F.leaky_relu(self.norm(self.hidden(torch.cat([normal, noised]))), 0.2))
        good, bad = scores.float().chunk(2)
        return torch.clamp(0.5 - good, min=0).mean() + torch.clamp(0.5 + bad, min=0).mean()

    def optimizers(self):
        discriminator = [*self.hidden.parameters(), *self.norm.parameters(), *self.output.parameters()]
        options = {"weight_decay": 1e-5, "fused": DEVICE.type == "cuda", "capturable": DEVICE.type == "cuda"}
        return [torch.optim.Adam(self.adaptor.parameters(), lr=1e-4, **options), torch.optim.Adam(discriminator, lr=2e-4, **options)]


def step(request):
    dim, hidden, patches, batch, slots = request.get("head", [1536, 1024, 784, 4, 10])
    bank = torch.randn(slots, batch * patches, dim, device=DEVICE) * 0.3

    def prepare(precision, compiled, graph):
        tf32(precision == "tf32")
        head = Head(dim, hidden).to(DEVICE).train()
        optimizers = head.optimizers()

        def loss(features):
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=precision == "bf16"):
                return head.loss(features, 0.015)

        if compiled:
            torch.compiler.reset()
            loss = torch.compile(loss, dynamic=False)

        def one(slot):
            value = loss(bank[slot])
            for optimizer in optimizers:
                optimizer.zero_grad(set_to_none=True)
            value.backward()
            for optimizer in optimizers:
                optimizer.step()

        def epoch():
            for slot in range(slots):
                one(slot)

        return captured(epoch) if graph else epoch

    fields = {"subject": "training step", "model": f"{dim} to {hidden}, {batch * patches} patches", "batch": batch}
    for precision in ("f32", "tf32", "bf16"):
        attempt(request, {**fields, "engine": "torch", "precision": precision}, lambda: prepare(precision, False, False), slots)
        if DEVICE.type == "cuda":
            attempt(request, {**fields, "engine": "torch + graph", "precision": precision}, lambda: prepare(precision, False, True), slots)
    tf32(False)

    def compiled(precision):
        engine = {**fields, "precision": precision}
        work = attempt(request, {**engine, "engine": "torch.compile"}, lambda: prepare(precision, True, False), slots)
        if work and DEVICE.type == "cuda":
            attempt(request, {**engine, "engine": "torch.compile + graph"}, lambda: captured(work), slots)
        tf32(False)

    return [(1, lambda: compiled("bf16")), (3, lambda: compiled("tf32"))]


def maps(request):
    """83 grids of scores to maps, sigma 4: bilinear, then scipy's gaussian_filter as two convolutions."""
    scores = torch.randn(83, 1, 28, 28, device=DEVICE)
    radius = 16
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=DEVICE) / 4.0) ** 2)
    taps = taps / taps.sum()

    def work(scores):
        large = F.interpolate(scores, size=(224, 224), mode="bilinear", align_corners=False)
        # scipy's "reflect" repeats the edge pixel.
        large = torch.cat([large[:, :, :radius].flip(2), large, large[:, :, -radius:].flip(2)], 2)
        large = F.conv2d(large, taps.view(1, 1, -1, 1))
        large = torch.cat([large[:, :, :, :radius].flip(3), large, large[:, :, :, -radius:].flip(3)], 3)
        return F.conv2d(large, taps.view(1, 1, 1, -1)), scores.amax((1, 2, 3))

    fields = {"subject": "maps", "model": "28×28 to 224×224, σ = 4", "precision": "f32", "batch": 83}
    with torch.inference_mode():
        run = attempt(request, {**fields, "engine": "torch"}, lambda: lambda: work(scores))
        if run and DEVICE.type == "cuda":
            attempt(request, {**fields, "engine": "torch + graph"}, lambda: captured(run))


def outputs(request):
    if "images" not in request or "outputs" not in request:
        return
    images = read_safetensors(request["images"])["images"].to(DEVICE)
    tf32(False)
    found = {}
    for suffix, kind in (("", torch.float32), (".bf16", torch.bfloat16)):
        network = load(request.get("arch", "wide_resnet50_2"), request["weights"]).to(DEVICE, kind)
        second, third = network(images.to(kind))
        found |= {f"layer2{suffix}": second, f"layer3{suffix}": third, f"rows{suffix}": rows(second, third)}
    write_safetensors(request["outputs"], found)
    say(subject="outputs", file=request["outputs"])


def main():
    request = json.load(sys.stdin)
    torch.manual_seed(0)
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu"
    say(torch=torch.__version__, cuda=torch.version.cuda, cudnn=torch.backends.cudnn.version(), device=name)
    # Outputs first: timings of something wrong are worth nothing. Compilation takes tens of seconds each, so it comes last, in
    # the order in which it is wanted.
    subjects = {"outputs": outputs, "ceilings": ceilings, "maps": maps, "features": features, "step": step}
    later = []
    for subject, run in subjects.items():
        if subject in request.get("only", subjects):
            with torch.set_grad_enabled(subject == "step"):
                later += run(request) or []
    for _, run in sorted(later, key=lambda ranked: ranked[0]):
        run()
    say(seconds=time.perf_counter() - START)


if __name__ == "__main__":
    main()
