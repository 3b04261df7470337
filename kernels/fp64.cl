/*
 * Does a device round double precision as the standard says? clnorm's f64 rests on these three operations alone
 * (besides + - *); host/opencl/fp64.c makes the cases and knows the answers.
 *
 *      cases    [ a b c ][ a b c ] ...            one work-item a case
 *      results  [ a / b, sqrt(a), fma(a, b, c) ] ...
 */
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#pragma OPENCL FP_CONTRACT OFF

__kernel void clnorm_fp64(__global const double *cases, __global double *results) {
  const size_t i = 3 * get_global_id(0);
  const double a = cases[i], b = cases[i + 1], c = cases[i + 2];
  results[i] = a / b;
  results[i + 1] = sqrt(a);
  results[i + 2] = fma(a, b, c);
}
