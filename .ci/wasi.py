#!/usr/bin/env python3
"""Runs a WASI program with wasmtime (from PyPI), as its command line would: .ci/wasi.py PROGRAM.wasm ARGS...

The program sees the current folder, and the one that $TMPDIR names (default: /tmp).
"""
import os
import sys

import wasmtime

config = wasmtime.Config()
config.cache = True
engine = wasmtime.Engine(config)
store = wasmtime.Store(engine)
wasi = wasmtime.WasiConfig()
wasi.argv = sys.argv[1:]
wasi.inherit_env()
wasi.inherit_stdin()
wasi.inherit_stdout()
wasi.inherit_stderr()
wasi.preopen_dir(".", ".")
folder = os.environ.get("TMPDIR", "/tmp")
wasi.preopen_dir(folder, folder)
store.set_wasi(wasi)
linker = wasmtime.Linker(engine)
linker.define_wasi()
instance = linker.instantiate(store, wasmtime.Module.from_file(engine, sys.argv[1]))
try:
    instance.exports(store)["_start"](store)
except wasmtime.ExitTrap as exit:
    sys.exit(exit.code)
