// SPDX-License-Identifier: MIT
#pragma once

#define PLINTH_VERSION "0.1"
