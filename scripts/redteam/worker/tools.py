# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The jurat authors
"""A module of the Python workload."""


def limit():
    return 100
