/* clnorm.h stands alone: nothing is included before it. */
#include <clnorm/clnorm.h>

int main(void) { return clnorm_version()[0] == '\0'; }
