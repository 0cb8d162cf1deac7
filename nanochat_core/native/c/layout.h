// What a structure looks like to the compiler, for Python to compare with its own description when the library is loaded:
// a field that only one of them knew would move all that follow, and pointers would be read where numbers lie.
#ifndef LAYOUT_H
#define LAYOUT_H

#include <stddef.h>
#include <stdint.h>

// Exports the size of `structure` and where its last field begins, as layout_<structure>.
#define EXPORT_LAYOUT(structure, last) \
    const int64_t layout_##structure[2] = {sizeof(structure), offsetof(structure, last)}

#endif
