/* Numbers for people. */
#ifndef CLNORM_CLI_TEXT_H
#define CLNORM_CLI_TEXT_H

typedef struct clnorm_text {
  char text[32];
} clnorm_text;

/* Three significant digits in the unit that fits: "205 ns", "4.22 us", "71.3 ms", "12.0 s", "0 s"; "-" for a
 * time that is negative or NaN: not measured. */
clnorm_text clnorm_time_text(double seconds);

/* Three significant digits, or all before the point, without an exponent below 1e15: "0.0123", "1.50",
 * "12345". */
clnorm_text clnorm_number_text(double value);

#endif
