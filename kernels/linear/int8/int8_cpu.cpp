// Products in int8 by instructions that every machine of the level has.
#define TKF_INT8 int8
#define TKF_INT8_DOTS 0
#include "int8.h"
