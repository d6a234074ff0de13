#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a C program that prints all sizes, offsets and constants of the public headers: make_layout.py HEADERS OUT.c"""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bindings"))
sys.dont_write_bytecode = True
import generate  # noqa: E402

interface = generate.read_headers(pathlib.Path(sys.argv[1]))
lines = []
for struct, members in interface.structs:
    lines.append(f'printf("{struct} %zu\\n", sizeof({struct}));')
    lines += [f'printf("{struct}.{member} %zu\\n", offsetof({struct}, {member}));' for member, _ in members]
lines += [f'printf("{name} %lld\\n", (long long){name});' for name, _ in interface.constants]
pathlib.Path(sys.argv[2]).write_text(
    "#include <detrdistill/detrdistill.h>\n#include <stddef.h>\n#include <stdio.h>\n\nint main(void)\n{\n    "
    + "\n    ".join(lines) + "\n    return 0;\n}\n")
