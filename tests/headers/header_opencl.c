/* clnorm_opencl.h stands alone: nothing is included before it, and OpenCL need not be linked. */
#include <clnorm/clnorm_opencl.h>

int main(void) {
  const clnorm_memory absent = clnorm_opencl_memory(NULL, 0, 0);
  return absent.cl != NULL || clnorm_version()[0] == '\0';
}
