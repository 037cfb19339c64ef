#!/usr/bin/env python3
"""Fails if source files import each other in a circle; tests are not looked at.

    .ci/circles.py [FOLDER]            each circle, one a line
    .ci/circles.py --table [FOLDER]    lines, files and circles of each crate

A file's imports are the paths in it (`use`, and `crate::a::b` in the code): the file that has the item, and each that re-exports it on the way
there. The files of a module may use what the module itself (its `mod.rs`) declares for them.
"""

import re
import sys
from pathlib import Path

CRATES = {"bise": "src", "bise-models": "models/src", "bise-kernels": "kernels/src", "bise-capi": "capi/src", "bise-python": "python/src"}
PYTHON = "python/bise"


def code(text):
    """Without comments, texts and tests."""
    text = re.sub(r'//[^\n]*|/\*.*?\*/|b?r#".*?"#|b?"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])\'', " ", text, flags=re.S)
    while found := re.search(r"#\[cfg\((?:all\()?(?:test|loom)\b[^\]]*\]\s*(?:pub(?:\([^)]*\))?\s+)?(?:mod \w+|use|fn|impl)\b[^;{]*[;{]", text):
        end = found.end()
        depth = int(text[end - 1] == "{")
        while depth and end < len(text):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        text = text[: found.start()] + text[end:]
    return text


def tree(text, before=()):
    """The paths of a `use`, as (path, name)."""
    text = text.strip()
    depth, part, parts = 0, "", []
    for c in text:
        depth += {"{": 1, "}": -1}.get(c, 0)
        if c == "," and not depth:
            parts.append(part)
            part = ""
        else:
            part += c
    for part in filter(str.strip, [*parts, part]):
        head, brace, rest = part.partition("{")
        segments = [s.strip() for s in head.split("::") if s.strip()]
        if brace:
            yield from tree(rest.rsplit("}", 1)[0], (*before, *segments))
            continue
        last, _, name = segments[-1].partition(" as ") if segments else ("", "", "")
        path = (*before, *segments[:-1], *(() if last == "self" else (last,)))
        yield path, name.strip() or path[-1]


class Crate:
    def __init__(self, root):
        self.files = {}
        for file in sorted(root.rglob("*.rs")):
            parts = list(file.relative_to(root).with_suffix("").parts)
            if parts[-1] in ("mod", "lib", "main"):
                parts.pop()
            self.files.setdefault(tuple(parts), file)
        self.code = {module: code(file.read_text()) for module, file in self.files.items()}
        self.names = {module: {} for module in self.files}
        uses = {}
        for module, text in self.code.items():
            uses[module] = []
            for found in re.finditer(r"\buse\s+([^;]+);", text):
                for path, name in tree(found[1]):
                    uses[module].append(path)
                    self.names[module][name] = path
        self.imports = {}
        for module, text in self.code.items():
            paths = set(uses[module])
            body = re.sub(r"\b(?:pub(?:\([^)]*\))?\s+)?use\s+[^;]+;", " ", text)
            for found in re.finditer(r"(?<![\w:])(?:\$?crate|super|self|[a-z_]\w*)(?:\s*::\s*\w+)+", body):
                paths.add(tuple(re.split(r"\s*::\s*", found[0].lstrip("$"))))
            targets = set().union(*(self.resolve(module, path) for path in paths))
            above = {module[:n] for n in range(len(module) + 1)}
            self.imports[module] = targets - above

    def resolve(self, module, path, depth=0):
        """The modules that a path in `module` goes through: the last has what it names. None for another crate's."""
        path = list(path)
        here = list(module)
        if path[0] == "crate":
            here, path = [], path[1:]
        elif path[0] in ("super", "self"):
            while path and path[0] in ("super", "self"):
                if path.pop(0) == "super":
                    here = here[:-1]
        elif (*module, path[0]) not in self.files:
            target = self.names[module].get(path[0])
            if target is None or target == tuple(path) or depth > 8:
                return set()
            return self.resolve(module, (*target, *path[1:]), depth + 1)
        while path and (*here, path[0]) in self.files:
            here.append(path.pop(0))
        here = tuple(here)
        if here not in self.files:
            return set()
        if path and depth < 8 and path[0] in self.names[here] and self.names[here][path[0]] != tuple(path):
            return {here} | self.resolve(here, (*self.names[here][path[0]], *path[1:]), depth + 1)
        return {here}


def python_imports(root):
    package = root.name
    modules = {}
    for file in sorted(root.rglob("*.py")):
        parts = [package, *file.relative_to(root).with_suffix("").parts]
        modules[tuple(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    imports = {}
    for module, file in modules.items():
        found = set()
        for base, names in re.findall(r"^\s*from (bise[\w.]*) import \(?([^)\n]*)", file.read_text(), re.M):
            base = tuple(base.split("."))
            for name in re.findall(r"\w+", re.sub(r" as \w+", "", names)):
                found.add((*base, name) if (*base, name) in modules else base)
        above = {module[:n] for n in range(len(module) + 1)}
        imports[module] = (found & modules.keys()) - above
    return modules, imports


def circles(imports):
    """Strongly connected components of more than one module."""
    index, low, stack, out = {}, {}, [], []

    def visit(v):
        index[v] = low[v] = len(index)
        stack.append(v)
        for w in sorted(imports[v]):
            if w not in index:
                visit(w)
                low[v] = min(low[v], low[w])
            elif w in stack:
                low[v] = min(low[v], index[w])
        if low[v] == index[v]:
            at = stack.index(v)
            if len(stack) - at > 1:
                out.append(sorted(stack[at:]))
            del stack[at:]

    for v in sorted(imports):
        if v not in index:
            visit(v)
    return out


def main():
    sys.setrecursionlimit(10_000)
    args = sys.argv[1:]
    table = "--table" in args
    args = [a for a in args if a != "--table"]
    root = Path(args[0]) if args else Path(__file__).resolve().parent.parent
    failed = False
    if table:
        print("| | files | lines | longest file | circles | files in them |\n|---|---:|---:|---:|---:|---:|")
    for name, folder in {**CRATES, "python": PYTHON}.items():
        if not (root / folder).is_dir():
            continue
        if name == "python":
            files, imports = python_imports(root / folder)
        else:
            crate = Crate(root / folder)
            files, imports = crate.files, crate.imports
        found = circles(imports)
        if table:
            lines = [len(file.read_text().splitlines()) for file in files.values()]
            inside = sum(map(len, found))
            print(f"| `{folder}` | {len(files)} | {sum(lines)} | {max(lines)} | {len(found)} | {inside} |")
            continue
        for circle in found:
            failed = True
            print(f"{name}: a circle of imports: {', '.join(str(files[m].relative_to(root)) for m in circle)}")
    sys.exit(failed)


main()
