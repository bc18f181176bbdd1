"""The scoring of anomalib's PatchcoreModel (euclidean_dist, nearest_neighbors, compute_anomaly_score) in plain PyTorch.

usage: peer.py FOLDER CHANNELS PATCHES THREADS    with FOLDER/memory and FOLDER/queries as raw float32; writes FOLDER/scores,
for every image its patch scores and then its own.
"""

import statistics
import sys
import time
from pathlib import Path

import numpy
import torch

folder, channels, patches, threads = Path(sys.argv[1]), *map(int, sys.argv[2:5])
torch.set_num_threads(threads)
memory = torch.from_numpy(numpy.fromfile(folder / "memory", dtype="<f4").reshape(-1, channels))
images = torch.from_numpy(numpy.fromfile(folder / "queries", dtype="<f4").reshape(-1, patches, channels))


def euclidean_dist(x, y):
    squared = x.pow(2).sum(dim=-1, keepdim=True) - 2 * torch.matmul(x, y.T) + y.pow(2).sum(dim=-1, keepdim=True).T
    return squared.clamp_min_(0).sqrt_()


def score(rows):
    patch_scores, nearest = euclidean_dist(rows, memory).min(dim=1)
    largest = patch_scores.argmax()
    around = memory[nearest[largest]].unsqueeze(0)
    neighbours = euclidean_dist(around, memory).topk(min(9, len(memory)), largest=False).indices[0]
    distances = torch.cdist(rows[largest].unsqueeze(0), memory[neighbours])
    weight = 1 - torch.softmax(distances[0], 0)[0]
    return patch_scores, weight * patch_scores[largest]


times, out = [], []
with torch.inference_mode():
    score(images[0])
    for rows in images:
        start = time.perf_counter()
        patch_scores, image = score(rows)
        times.append(1e3 * (time.perf_counter() - start))
        out += [patch_scores, image.reshape(1)]
torch.cat(out).numpy().astype("<f4").tofile(folder / "scores")
print(f"PyTorch  {statistics.median(times):8.2f} ms per image (median), torch {torch.__version__}", flush=True)
