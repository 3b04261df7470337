# What the bits need of the compiler, whatever flags the user gives: these come after them. What cannot be
# switched off is refused by kernels/base.h.
#
#   CLNORM_FLOATING_POINT        options of the compiler
#   CLNORM_FLOATING_POINT_LINK   options of the linker

include(CheckCCompilerFlag)

# IEEE arithmetic, as it is written. No trapping math: nobody looks at exceptions, and gcc then computes both
# sides of a choice, so that loops over channels become vectors.
set(CLNORM_FLOATING_POINT
  -fno-fast-math -fno-finite-math-only -fno-associative-math -fno-reciprocal-math -fsigned-zeros
  -fno-rounding-math -fno-trapping-math -ffp-contract=off)

# What only some compilers know. gcc: "fast" is no excess precision where the processor has none of its own;
# a constant like 0.9 is a double; -Ofast lets stores race. To clang -fno-fast-math says all of it.
set(optional_GNU -fno-unsafe-math-optimizations -fexcess-precision=fast -fno-single-precision-constant
  -fno-allow-store-data-races)
set(optional_Clang -fno-approx-func -fdenormal-fp-math=ieee)
if(CMAKE_C_COMPILER_ID MATCHES "(GNU|Clang)$")
  foreach(flag IN LISTS optional_${CMAKE_MATCH_1})
    string(MAKE_C_IDENTIFIER "CLNORM_HAS${flag}" known)
    check_c_compiler_flag(${flag} ${known})
    if(${known})
      list(APPEND CLNORM_FLOATING_POINT ${flag})
    endif()
  endforeach()
endif()

# The x87 unit computes more precisely than asked, so 32-bit x86 needs SSE2.
check_c_source_compiles("
#if !(defined(__i386__) || defined(__x86_64__)) || __FLT_EVAL_METHOD__ == 0
#error no x87 arithmetic
#endif
int main(void) { return 0; }" CLNORM_X87)
if(CLNORM_X87)
  list(APPEND CLNORM_FLOATING_POINT -msse2 -mfpmath=sse)
endif()

# A program or shared library that is linked with -ffast-math or -Ofast (CMake gives the compiler's flags to
# the linker, too) makes its process flush subnormal values.
set(CLNORM_FLOATING_POINT_LINK -fno-fast-math -fno-unsafe-math-optimizations)
foreach(type IN ITEMS "" _DEBUG _RELEASE _RELWITHDEBINFO _MINSIZEREL)
  if("${CMAKE_C_FLAGS${type}}" MATCHES "-Ofast")
    set(CLNORM_FLOATING_POINT_LINK -O3 -fno-fast-math -fno-unsafe-math-optimizations)
  endif()
endforeach()
