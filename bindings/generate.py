#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the low-level declarations of the bindings from the public headers (include/detrdistill/*.h).

    generate.py            writes python/detrdistill/_api.py and lua/detrdistill/cdef.lua
    generate.py --check    writes nothing; exits 1 with a diff where they are out of date

The headers are a regular subset of C: each declaration ends with ';' at the outer level and is an enum, a typedef or a
DD_API function. What is not understood is an error, never left out.
"""
import argparse
import difflib
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
DEFAULT_HEADERS = HERE.parent / "include" / "detrdistill"
# Each header comes after those that it includes.
ORDER = ["version.h", "status.h", "tensor.h", "tensorfile.h", "dlpack.h", "context.h", "matcher.h", "eval.h", "model.h", "data.h", "distiller.h",
         "trainer.h", "plot.h"]
UMBRELLA = "detrdistill.h"

CTYPES = {
    "int": "c_int", "int32_t": "c_int32", "uint32_t": "c_uint32", "int64_t": "c_int64", "uint64_t": "c_uint64",
    "uint8_t": "c_uint8", "uint16_t": "c_uint16", "float": "c_float", "double": "c_double",
}


class Interface:
    """Everything the headers declare, in order."""

    def __init__(self):
        self.constants = []   # (name, value)
        self.aliases = []     # (name, C type)
        self.opaque = []      # name
        self.structs = []     # (name, [(member, declaration)])
        self.callbacks = []   # (name, result, [(argument, type)])
        self.functions = []   # (name, result, [(argument, type)])
        self.declarations = []  # cleaned C text, for Lua


def strip_comments(text):
    return re.sub(r"/\*.*?\*/", " ", text, flags=re.S)


def integer(text):
    match = re.fullmatch(r"\(?(-?(?:0x[0-9a-fA-F]+|\d+))[uUlL]*\)?", text.strip())
    if not match:
        raise SyntaxError(f"not an integer constant: {text!r}")
    return int(match.group(1), 0)


def take_defines(text, interface):
    """Removes the preprocessor lines; keeps the integer constants."""
    kept, in_cplusplus = [], False
    for line in text.replace("\\\n", " ").split("\n"):
        if line.startswith("#ifdef __cplusplus"):
            in_cplusplus = True
        elif line.startswith("#endif") and in_cplusplus:
            in_cplusplus = False
        elif in_cplusplus:
            continue
        elif line.startswith("#"):
            define = re.fullmatch(r"#define (DD_[A-Z0-9_]+)\s+(\S.*)", line.rstrip())
            if define and define.group(1) != "DD_API":
                interface.constants.append((define.group(1), integer(define.group(2))))
        else:
            kept.append(line)
    return "\n".join(kept)


def statements(text):
    """Splits at the semicolons outside braces."""
    depth, start = 0, 0
    for position, char in enumerate(text):
        depth += (char == "{") - (char == "}")
        if char == ";" and depth == 0:
            yield " ".join(text[start:position].split())
            start = position + 1
    if text[start:].strip():
        raise SyntaxError(f"text after the last declaration: {text[start:].strip()[:80]!r}")


def split_declarator(text):
    """'const int64_t *shape' -> ('shape', 'const int64_t *');  'double x[12]' -> ('x', 'double [12]')."""
    match = re.fullmatch(r"(.*?[\s*])(\w+)\s*(\[\w+\])?", text.strip())
    if not match:
        raise SyntaxError(f"not a declaration: {text!r}")
    kind, name, array = match.groups()
    return name, kind.strip() + (f" {array}" if array else "")


def split_arguments(text):
    if text.strip() in ("", "void"):
        return []
    return [split_declarator(argument) for argument in text.split(",")]


def parse_struct(body):
    members = []
    for member in filter(None, (part.strip() for part in body.split(";"))):
        pointer = re.fullmatch(r"(\w+) \(\*(\w+)\)\((.*)\)", member)
        if pointer:
            result, name, arguments = pointer.groups()
            members.append((name, ("function", result, split_arguments(arguments))))
            continue
        first, *others = [part.strip() for part in member.split(",")]
        name, kind = split_declarator(first)
        members += [(each, kind) for each in [name] + others]
    return members


def parse_statement(text, interface):
    if match := re.fullmatch(r"enum \{(.*)\}", text):
        for entry in filter(None, (part.strip() for part in match.group(1).split(","))):
            name, value = entry.split("=")
            interface.constants.append((name.strip(), integer(value)))
    elif match := re.fullmatch(r"typedef struct (\w+) \1", text):
        interface.opaque.append(match.group(1))
    elif match := re.fullmatch(r"typedef struct (\w+) \{(.*)\} \1", text):
        interface.structs.append((match.group(1), parse_struct(match.group(2))))
    elif match := re.fullmatch(r"typedef (.*?)\(\*(\w+)\)\((.*)\)", text):
        interface.callbacks.append((match.group(2), match.group(1).strip(), split_arguments(match.group(3))))
    elif match := re.fullmatch(r"typedef (\w+) (\w+)", text):
        interface.aliases.append((match.group(2), match.group(1)))
    elif match := re.fullmatch(r"DD_API (.*?)(\w+)\((.*)\)", text):
        interface.functions.append((match.group(2), match.group(1).strip(), split_arguments(match.group(3))))
    else:
        raise SyntaxError(f"not understood: {text!r}")
    if not text.startswith("enum"):
        interface.declarations.append(text.replace("DD_API ", "") + ";")


def read_headers(folder):
    present = {path.name for path in folder.glob("*.h")} - {UMBRELLA}
    if present != set(ORDER):
        raise SyntaxError(f"headers differ from the list in generate.py: {sorted(present ^ set(ORDER))}")
    interface = Interface()
    for name in ORDER:
        text = take_defines(strip_comments((folder / name).read_text()), interface)
        try:
            for statement in statements(text):
                parse_statement(statement, interface)
        except (SyntaxError, ValueError) as error:
            raise SyntaxError(f"{name}: {error}") from None
    return interface


def ctype(kind):
    """The ctypes name of a C type."""
    kind = kind.replace("const ", "").replace("struct ", "").strip()
    array = re.fullmatch(r"(.*) \[(\w+)\]", kind)
    if array:
        return f"{ctype(array.group(1))} * {array.group(2)}"
    if kind == "void":
        return "None"
    if kind == "void *":
        return "c_void_p"
    if kind == "char *":
        return "c_char_p"
    if kind.endswith("*"):
        return f"P({ctype(kind[:-1].strip() if not kind[:-1].endswith('*') else kind[:-1])})"
    if kind in CTYPES:
        return CTYPES[kind]
    if kind.startswith("dd_"):
        return kind
    raise SyntaxError(f"no ctypes name for {kind!r}")


def argument_ctype(kind):
    # An array argument is a pointer in C.
    array = re.fullmatch(r"(.*) \[\w+\]", kind)
    return ctype(array.group(1) + " *") if array else ctype(kind)


def python_member(kind):
    if isinstance(kind, tuple):
        _, result, arguments = kind
        return "C({})".format(", ".join([ctype(result)] + [argument_ctype(each) for _, each in arguments]))
    return ctype(kind)


def python_text(interface):
    out = ["# SPDX-License-Identifier: Apache-2.0",
           "# generated by bindings/generate.py from include/detrdistill/*.h: do not edit",
           '"""The C interface as ctypes declarations: constants, structs, callback types, function prototypes."""',
           "from ctypes import CFUNCTYPE as C, POINTER as P, Structure",
           "from ctypes import c_char_p, c_double, c_float, c_int32, c_int64, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p",
           ""]
    out += [f"{name} = {value}" for name, value in interface.constants]
    for name, kind in interface.aliases:
        out += ["", "", f"class {name}({ctype(kind)}):", "    pass"]
    for name in interface.opaque + [name for name, _ in interface.structs]:
        out += ["", "", f"class {name}(Structure):", "    pass"]
    out += ["", ""]
    for name, members in interface.structs:
        out.append(f"{name}._fields_ = [")
        out += [f'    ("{member}", {python_member(kind)}),' for member, kind in members]
        out += ["]", ""]
    for name, result, arguments in interface.callbacks:
        out.append(f"{name} = C({', '.join([ctype(result)] + [argument_ctype(kind) for _, kind in arguments])})")
    out += ["", "# name, result, arguments", "FUNCTIONS = ["]
    for name, result, arguments in interface.functions:
        out.append(f'    ("{name}", {ctype(result)}, [{", ".join(argument_ctype(kind) for _, kind in arguments)}]),')
    out += ["]", ""]
    return "\n".join(out)


def lua_text(interface):
    values = dict(interface.constants)

    def with_numbers(text):
        return re.sub(r"\[(DD_\w+)\]", lambda match: f"[{values[match.group(1)]}]", text)

    out = ["-- SPDX-License-Identifier: Apache-2.0",
           "-- generated by bindings/generate.py from include/detrdistill/*.h: do not edit",
           "-- The C interface for LuaJIT's FFI: declarations (made once per Lua state) and the table of constants.",
           'local ffi = require("ffi")',
           "",
           'if not pcall(ffi.typeof, "dd_tensor") then',
           "    ffi.cdef [["]
    out += [with_numbers(text) for text in interface.declarations]
    out += ["]]", "end", "", "return {"]
    out += [f"    {name} = {value}," for name, value in interface.constants]
    out += ["}", ""]
    return "\n".join(out)


def check(outputs):
    stale = False
    for path, text in outputs:
        old = path.read_text() if path.exists() else ""
        if old != text:
            stale = True
            lines = difflib.unified_diff(old.splitlines(True), text.splitlines(True), str(path), "from the headers")
            sys.stdout.writelines(lines)
    return 1 if stale else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 with a diff where something would change")
    parser.add_argument("--headers", type=pathlib.Path, default=DEFAULT_HEADERS, help="folder of the public headers")
    options = parser.parse_args()
    try:
        interface = read_headers(options.headers)
        outputs = [(HERE / "python" / "detrdistill" / "_api.py", python_text(interface)),
                   (HERE / "lua" / "detrdistill" / "cdef.lua", lua_text(interface))]
    except SyntaxError as error:
        sys.exit(f"generate.py: {error}")
    if options.check:
        return check(outputs)
    for path, text in outputs:
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
