"""Names the wheel by its platform: it holds a native library, and serves every version of Python."""

from sysconfig import get_platform

from setuptools import setup

setup(options={"bdist_wheel": {"plat_name": get_platform()}})
