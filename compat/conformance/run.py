"""Where `make conformance` begins: any Python with pip can run it, from any directory."""

import runpy
import sys
from pathlib import Path

# In place of this directory: the modules are imported as compat.conformance.…
sys.path[0] = str(Path(__file__).resolve().parents[2])
runpy.run_module("compat.conformance", run_name="__main__")
