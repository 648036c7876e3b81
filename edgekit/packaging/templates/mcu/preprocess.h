/* @@HEAD@@
 * How a raw sample becomes real values, in C. */
#ifndef @@GUARD@@_PREPROCESS
#define @@GUARD@@_PREPROCESS

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EK_PI 3.14159265358979323846
@@PARTS@@
#endif
