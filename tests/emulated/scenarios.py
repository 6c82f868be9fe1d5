# SPDX-License-Identifier: MIT
"""Every scenario module; importing one registers its scenarios. The longest come first: at the end none runs alone."""

import together  # noqa: F401
import installer  # noqa: F401
import linux  # noqa: F401
import linux32  # noqa: F401
import fuzz_guest  # noqa: F401
import bad_input  # noqa: F401
import boot_errors  # noqa: F401
import boot_ways  # noqa: F401
import conformance  # noqa: F401
import debugger  # noqa: F401
import disks  # noqa: F401
import disks_linux  # noqa: F401
import exit_costs  # noqa: F401
import firmware  # noqa: F401
import kernels  # noqa: F401
import many  # noqa: F401
import no_engine  # noqa: F401
import scheduling  # noqa: F401
import tasks  # noqa: F401
