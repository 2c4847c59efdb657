# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The jurat authors
"""The registered Python workload of the evasion suite: asks for a credential, says what came."""
import json
import os
import socket
import sys

import tools


def ask():
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(os.environ["JURAT_SOCKET"])
        f = s.makefile("rw")
        f.readline()
        f.write(json.dumps({"v": 1, "op": "credential", "delegation": os.environ["JURAT_PY_DELEGATION"]}) + "\n")
        f.flush()
        return f.readline().strip()


if tools.limit() != 100:
    print("deed the agent's limit is", tools.limit(), flush=True)
print("answer" if len(sys.argv) < 2 else sys.argv[1], os.getpid(), ask(), flush=True)
