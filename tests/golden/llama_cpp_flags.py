#!/usr/bin/env python3
"""Lists every flag of llama.cpp: its spellings, how many values it takes, its environment variable.

    tests/golden/llama_cpp_flags.py path/to/llama.cpp >tests/golden/llama_cpp_flags.txt
"""

import re
import sys
from pathlib import Path

root = Path(sys.argv[1])
print("# Every flag of llama.cpp b11434, one a line: spellings, number of values, environment variable.")
print("# Written by llama_cpp_flags.py. A flag with a negative form has that on a line of its own.")
print("\n[all programs but llama-bench]")
source = (root / "common/arg.cpp").read_text()
rows = set()
for option in re.split(r"\badd_opt\(common_arg\(", source)[1:]:
    option = re.sub(r"^\s*//[^\n]*\n", "\n", option)
    head = re.match(r"\s*\{([^}]*)\}\s*,\s*(?:\{([^}]*)\}\s*,\s*)?", option)
    names, negative = (re.findall(r'"([^"]+)"', group or "") for group in head.groups())
    n_values = 0
    # Only the names of the values stand on the line of the spellings.
    if not negative and "\n" not in option[option.index("}") : head.end()]:
        if re.match(r'"[^"\n]+",', option[head.end() :]):
            two = re.search(r"const std::string &\s*\w*,\s*const std::string &", option)
            n_values = 2 if two else 1
    # Written as "[a|b|c]" and put together at run time.
    if "--spec-type" in names:
        n_values = 1
    variable = (re.findall(r'\.set_env\("([^"]+)"\)', option) or [None])[0]
    rows.add((tuple(names), n_values, variable))
    if negative:
        off = variable and variable.replace("LLAMA_ARG_", "LLAMA_ARG_NO_")
        rows.add((tuple(negative), 0, off))
for names, n_values, variable in sorted(rows, key=lambda row: row[0]):
    print(*names, n_values, variable or "-")

print("\n[llama-bench]")
source = (root / "tools/llama-bench/llama-bench.cpp").read_text()
parse = source[source.index('arg == "-h"') :]
for branch in parse.split("} else if (")[1:]:
    names = re.findall(r'arg == "(-[^"]+)"', branch.split("{")[0])
    if names:
        print(*names, int("++i" in branch), "-")
