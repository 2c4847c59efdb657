# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The jurat authors
"""A small AI workload in Python: a script, a module of its own, and a model.

It ranks two invoices with the weights of the model and asks juratd for the
credential to fetch more. What it is allowed to do hangs on all three files: on
the interpreter alone would hang every Python program of the host.
"""
import json
import os
import socket
import sys

import scoring


def ask():
    """Ask juratd for the credential of the delegation that this run is for."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(os.environ["JURAT_SOCKET"])
        f = s.makefile("rw")
        f.readline()
        f.write(json.dumps({"v": 1, "op": "credential", "delegation": os.environ["JURAT_DELEGATION"]}) + "\n")
        f.flush()
        return json.loads(f.readline())


weights = scoring.read(sys.argv[1])
print("weights", weights)
for name, amount, days in sorted([("Acme", 1200.0, 3), ("Umbrella", 90.0, 40)], key=lambda i: -scoring.score(weights, *i[1:])):
    print(name, amount, days)
answer = ask()
if "error" in answer:
    print("refused:", answer["error"]["message"], "txn", answer["error"].get("txn", "none"))
    sys.exit(1)
print("credential for", answer["audience"])
