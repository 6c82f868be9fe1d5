// SPDX-License-Identifier: MIT
// The median of some measurements, beside the least and the largest.
#include "guests/lib/samples.h"
#include "guests/lib/guest.h"

static void sort(u32 *values, unsigned count)
{
    for (unsigned gap = count / 2; gap; gap /= 2)
        for (unsigned i = gap; i < count; i++)
            for (unsigned j = i; j >= gap && values[j - gap] > values[j]; j -= gap) {
                u32 t = values[j];
                values[j] = values[j - gap];
                values[j - gap] = t;
            }
}

void samples_report(const char *name, u32 *samples, unsigned count)
{
    sort(samples, count);
    guest_print("bench: ");
    guest_print(name);
    const u32 figures[] = {samples[count / 2], samples[0], samples[count - 1]};
    for (unsigned i = 0; i < ARRAY_SIZE(figures); i++) {
        guest_print(" ");
        guest_print_number(figures[i]);
    }
    guest_print("\n");
}
