# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The jurat authors
"""How invoices are ranked: two weights from a .safetensors file."""
import json
import struct


def read(path):
    """Read the tensor "weights" of two 32-bit floats."""
    with open(path, "rb") as f:
        (size,) = struct.unpack("<Q", f.read(8))
        begin, end = json.loads(f.read(size))["weights"]["data_offsets"]
        f.seek(8 + size + begin)
        return list(struct.unpack("<2f", f.read(end - begin)))


def score(weights, amount, days):
    return weights[0] * amount + weights[1] * days
