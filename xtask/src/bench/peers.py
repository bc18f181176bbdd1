"""The other side of `cargo xtask bench cpu --peers`: runs what it is told, one line of JSON for one line of JSON.

Networks come as a list of nodes with weights in one file of f32 values, so that every engine has the same ones, with batch
normalisation folded, which is the form that is fastest for all of them. The ONNX model is written here field by field,
so that no package is needed for that.
"""

import json
import os
import sys
import time
import warnings

import numpy as np

# torch.jit is deprecated and still the fastest way to run a network here.
warnings.simplefilter("ignore")

THREADS = int(sys.argv[1])

try:
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
except ImportError:
    torch = None
try:
    import onnxruntime
except ImportError:
    onnxruntime = None
try:
    import openvino
except ImportError:
    openvino = None


class Network:
    """Nodes, weights, images and outputs as files have them."""

    def __init__(self, path):
        with open(path) as file:
            self.about = json.load(file)
        self.values = np.fromfile(self.about["weights"], dtype=np.float32)
        self.images = np.fromfile(self.about["images"], dtype=np.float32).reshape(self.about["shape"])
        self.nodes = self.about["nodes"]
        self.outputs = self.about["outputs"]

    def tensor(self, place, shape):
        return self.values[place : place + int(np.prod(shape))].reshape(shape)


def torch_module(network):
    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for index, node in enumerate(network.nodes):
                if node["op"] == "conv":
                    outputs, per_group, kernel, _ = node["shape"]
                    top, left, bottom, right = node["pads"]
                    even = top == left == bottom == right
                    conv = torch.nn.Conv2d(
                        per_group * node["groups"],
                        outputs,
                        kernel,
                        node["stride"],
                        padding=top if even else 0,
                        groups=node["groups"],
                    )
                    conv.weight.data = torch.from_numpy(network.tensor(node["weight"], node["shape"]).copy())
                    conv.bias.data = torch.from_numpy(network.tensor(node["bias"], [outputs]).copy())
                    self.add_module(f"conv{index}", conv)

        def forward(self, image):
            made = [image]
            for index, node in enumerate(network.nodes):
                x = made[node["input"]]
                top, left, bottom, right = node["pads"]
                even = top == left == bottom == right
                if node["op"] == "max_pool":
                    made.append(F.max_pool2d(x, node["kernel"], node["stride"], top))
                    continue
                if not even:
                    x = F.pad(x, (left, right, top, bottom))
                x = getattr(self, f"conv{index}")(x)
                if node["residual"] is not None:
                    x = x + made[node["residual"]]
                if node["activation"] == "relu":
                    x = F.relu(x, inplace=True)
                elif node["activation"] == "relu6":
                    x = F.relu6(x, inplace=True)
                made.append(x)
            return tuple(made[output] for output in network.outputs)

    return Module().eval()


# ONNX as protocol buffers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto


def varint(value):
    out = bytearray()
    value &= (1 << 64) - 1
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field, value):
    return varint(field << 3) + varint(value)


def block(field, value):
    data = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(data)) + data


def tensor(name, values):
    dims = b"".join(number(1, side) for side in values.shape)
    return dims + number(2, 1) + block(8, name) + block(9, np.ascontiguousarray(values).tobytes())


def attribute(name, value):
    if isinstance(value, int):
        return block(5, block(1, name) + number(3, value) + number(20, 2))
    return block(5, block(1, name) + b"".join(number(8, item) for item in value) + number(20, 7))


def operator(kind, inputs, output, **attributes):
    names = b"".join(block(1, name) for name in inputs) + block(2, output)
    return block(1, names + block(4, kind) + b"".join(attribute(*item) for item in attributes.items()))


def described(name, shape):
    sides = b"".join(block(1, number(1, side)) for side in shape)
    return block(1, name) + block(2, block(1, number(1, 1) + block(2, sides)))


def onnx_model(network):
    nodes, tensors = b"", b""
    if any(node.get("activation") == "relu6" for node in network.nodes):
        zero, six = np.zeros((), np.float32), np.full((), 6, np.float32)
        tensors += block(5, tensor("zero", zero)) + block(5, tensor("six", six))
    for index, node in enumerate(network.nodes):
        source, target = f"v{node['input']}", f"v{index + 1}"
        if node["op"] == "max_pool":
            sides = {"kernel_shape": [node["kernel"]] * 2, "strides": [node["stride"]] * 2}
            nodes += operator("MaxPool", [source], target, pads=node["pads"], **sides)
            continue
        weight = network.tensor(node["weight"], node["shape"])
        bias = network.tensor(node["bias"], node["shape"][:1])
        tensors += block(5, tensor(f"w{index}", weight)) + block(5, tensor(f"b{index}", bias))
        residual, activation = node["residual"], node["activation"]
        convolved = f"c{index}" if residual is not None or activation != "linear" else target
        nodes += operator(
            "Conv",
            [source, f"w{index}", f"b{index}"],
            convolved,
            group=node["groups"],
            kernel_shape=node["shape"][2:],
            strides=[node["stride"]] * 2,
            pads=node["pads"],
        )
        if residual is not None:
            summed = f"s{index}" if activation != "linear" else target
            nodes += operator("Add", [convolved, f"v{residual}"], summed)
            convolved = summed
        if activation == "relu":
            nodes += operator("Relu", [convolved], target)
        elif activation == "relu6":
            nodes += operator("Clip", [convolved, "zero", "six"], target)
    graph = nodes + block(2, "network") + tensors
    graph += block(11, described("v0", network.images.shape))
    for output, shape in zip(network.outputs, network.about["output_shapes"]):
        graph += block(12, described(f"v{output}", shape))
    return number(1, 8) + block(7, graph) + block(8, block(1, "") + number(2, 13))


def prepare(network, engine, precision):
    """A function that runs the images once and returns the outputs."""
    if engine.startswith("torch"):
        module = torch_module(network).to(memory_format=torch.channels_last)
        images = torch.from_numpy(network.images).to(memory_format=torch.channels_last)
        if precision == "bf16":
            module, images = module.bfloat16(), images.bfloat16()
        if engine.startswith("torch.jit"):
            with torch.no_grad():
                module = torch.jit.freeze(torch.jit.trace(module, images))
                module = torch.jit.optimize_for_inference(module)
                for _ in range(3):
                    module(images)

        def run():
            with torch.inference_mode():
                return module(images)

        return run
    if engine.startswith("onnxruntime"):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        session = onnxruntime.InferenceSession(onnx_model(network), options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, {"v0": network.images})
    core = openvino.Core()
    properties = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": THREADS,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(core.read_model(onnx_model(network)), "CPU", properties).create_infer_request()

    def run():
        results = request.infer({0: network.images})
        return [results[index] for index in range(len(network.outputs))]

    return run


def plain(output):
    if torch is not None and isinstance(output, torch.Tensor):
        output = output.float().contiguous().numpy()
    return np.ascontiguousarray(output, dtype=np.float32)


class Training:
    """The authors' step on cached features, with autograd: adaptor, discriminator on both halves, truncated L1, Adam."""

    def __init__(self, about, precision):
        values = np.fromfile(about["values"], dtype=np.float32)
        tensors = {
            name: torch.from_numpy(values[place : place + int(np.prod(shape))].reshape(shape).copy())
            for name, (place, shape) in about["tensors"].items()
        }
        self.precision, self.sigma = precision, about["noise"]
        self.features, self.given_noise = tensors["features"], tensors["noise"]
        hidden, dim = tensors["disc.fc1.weight"].shape
        self.adaptor = torch.nn.Linear(dim, dim, bias=False)
        self.first = torch.nn.Linear(dim, hidden)
        self.norm = torch.nn.BatchNorm1d(hidden)
        self.last = torch.nn.Linear(hidden, 1, bias=False)
        self.adaptor.weight.data = tensors["adaptor.0.weight"]
        self.first.weight.data = tensors["disc.fc1.weight"]
        self.first.bias.data = tensors["disc.fc1.bias"]
        self.last.weight.data = tensors["disc.fc2.weight"]
        discriminator = [*self.first.parameters(), *self.norm.parameters(), *self.last.parameters()]
        self.optimizers = [
            torch.optim.Adam(self.adaptor.parameters(), lr=1e-4, weight_decay=1e-5),
            torch.optim.Adam(discriminator, lr=2e-4, weight_decay=1e-5),
        ]

    def step(self, noise=None):
        if noise is None:
            noise = torch.randn(self.features.shape) * self.sigma
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            adapted = self.adaptor(self.features)
            both = torch.cat([adapted, adapted + noise])
            scores = self.last(F.leaky_relu(self.norm(self.first(both)), 0.2)).float()
        normal, noised = scores[: len(adapted)], scores[len(adapted) :]
        loss = (0.5 - normal).clamp(min=0).mean() + (0.5 + noised).clamp(min=0).mean()
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss


def engines():
    found = []
    if torch is not None:
        isa = torch.backends.cpu.get_cpu_capability()
        for name in ("torch", "torch.jit"):
            found.append({"name": f"{name} {torch.__version__}", "isa": isa, "precisions": ["f32", "bf16"]})
    if onnxruntime is not None:
        found.append({"name": f"onnxruntime {onnxruntime.__version__}", "isa": "", "precisions": ["f32"]})
    if openvino is not None:
        capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        precisions = ["f32", "bf16"] if "BF16" in capabilities else ["f32"]
        version = openvino.__version__.split("-")[0]
        found.append({"name": f"openvino {version}", "isa": "", "precisions": precisions})
    return found


state = {}


def answer(request):
    what = request["do"]
    if what == "engines":
        return engines()
    if what == "load":
        state.clear()
        state["network"] = Network(request["network"])
        return None
    if what == "train_load":
        state.clear()
        with open(request["training"]) as file:
            state["training"] = Training(json.load(file), request["precision"])
        return None
    if what == "train_check":
        training = state["training"]
        loss = training.step(training.given_noise)
        training.first.weight.grad.numpy().tofile(request["to"])
        return float(loss)
    if what == "train_step":
        start = time.perf_counter()
        state["training"].step()
        return time.perf_counter() - start
    key = (request["engine"], request["precision"])
    if key not in state:
        state[key] = prepare(state["network"], *key)
    run = state[key]
    if what == "outputs":
        with open(request["to"], "wb") as file:
            for output in run():
                file.write(plain(output).tobytes())
        return None
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


# What a library prints must not come between the answers.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
for line in sys.stdin:
    try:
        reply = {"ok": answer(json.loads(line))}
    except Exception as error:  # noqa: BLE001 - every failure is an answer
        reply = {"error": f"{type(error).__name__}: {error}"}
    answers.write(json.dumps(reply) + "\n")
    answers.flush()
