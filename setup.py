"""Builds libfastinfer.so with the Makefile and puts it, its header and configs/ into the package."""

import glob
import os
import shutil
import subprocess

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

HERE = os.path.dirname(os.path.abspath(__file__))
NEEDS = ("libfastinfer.so could not be built by `make library`: gcc, g++, make and the headers of "
         "Jansson and xxHash are needed (Debian, Ubuntu: apt-get install gcc g++ make "
         "libjansson-dev libxxhash-dev)")


class BuildWithLibrary(build_py):
    def run(self):
        super().run()
        if self.editable_mode:  # a checkout finds its own build and its own configs/
            self._make()
            return
        library = self._make()
        package = os.path.join(self.build_lib, "fastinfer")
        shutil.copy2(library, package)
        for folder, files in (("configs", "configs/*.json"), ("include", "include/*.h")):
            os.makedirs(os.path.join(package, folder), exist_ok=True)
            for file in glob.glob(os.path.join(HERE, files)):
                shutil.copy2(file, os.path.join(package, folder))

    def _make(self):
        jobs = "-j%d" % (os.cpu_count() or 1)
        try:
            subprocess.run(["make", "-s", jobs, "library"], cwd=HERE, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SystemExit("%s: %s" % (NEEDS, error)) from None
        return os.path.join(HERE, "build", "release", "libfastinfer.so")


# Without Python's headers the package launches through ctypes.
DISPATCH = Extension("fastinfer._dispatch", ["python/dispatch.c"], include_dirs=["."],
                     py_limited_api=True, optional=True)

setup(cmdclass={"build_py": BuildWithLibrary}, ext_modules=[DISPATCH],
      options={"bdist_wheel": {"py_limited_api": "cp39"}})
