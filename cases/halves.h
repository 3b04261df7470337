/* float16 (IEEE binary16: 5 bits of exponent, 10 of fraction) and bfloat16 (8 and 7), as their bits, in whole
 * numbers only: neither the instructions of a processor nor code of the kernels, which are checked against this.
 *
 * Loads are exact; a double gets the value from the float. Stores round once, to nearest, ties to even, whatever
 * the rounding mode: values from 65520 on in a half and from 0x1.ffp+127 on in a bfloat are infinities, subnormals
 * are kept. A NaN stays a NaN with its sign and the upper bits of its payload; what is stored is quiet. */
#ifndef CLNORM_CASES_HALVES_H
#define CLNORM_CASES_HALVES_H

#include <stdint.h>

float clnorm_half_to_float(uint16_t half);
uint16_t clnorm_float_to_half(float value);
/* Never through float: a double close to the middle between two halves would be rounded onto it. */
uint16_t clnorm_double_to_half(double value);

float clnorm_bfloat_to_float(uint16_t bfloat);
uint16_t clnorm_float_to_bfloat(float value);
/* Never through float either. */
uint16_t clnorm_double_to_bfloat(double value);

#endif
