# cmake -D SCRIPT=EmbedKernels.cmake -D FOLDER=folder -P embed_kernels.cmake
#
# The embedder expands includes once each, and refuses, naming it, whatever it would leave in a kernel.
cmake_minimum_required(VERSION 3.18)

file(REMOVE_RECURSE "${FOLDER}")
file(WRITE "${FOLDER}/unlisted.h" "int unlisted;\n")
file(WRITE "${FOLDER}/inner.h" "\nint inner;\n")
file(WRITE "${FOLDER}/outer.h" "/* */\n#include \"inner.h\"\nint outer;\n")

# SAYS: what the message has; without it the text is embedded.
function(embed text says)
  file(WRITE "${FOLDER}/k.cl" "${text}")
  execute_process(
    COMMAND ${CMAKE_COMMAND} -D OUTPUT=${FOLDER}/k.c -D KERNELS=${FOLDER} -D NAMES=k
            "-DFILES=k.cl;outer.h;inner.h;absent.h" -P ${SCRIPT}
    RESULT_VARIABLE status ERROR_VARIABLE message)
  string(REGEX REPLACE "[ \n]+" " " message "${message}")
  string(FIND "${message}" "${says}" found)
  if(says STREQUAL "" AND NOT status EQUAL 0)
    message(FATAL_ERROR "refused:\n${text}\n${message}")
  elseif(NOT says STREQUAL "" AND (status EQUAL 0 OR found EQUAL -1))
    message(FATAL_ERROR "not refused with '${says}':\n${text}\n${message}")
  endif()
endfunction()

embed("/* */\n#include \"outer.h\"\n#include \"inner.h\"\n#include <stdint.h>\nint k;\n" "")
file(READ "${FOLDER}/k.c" code)
string(REGEX MATCHALL "0x[0-9a-f][0-9a-f]" bytes "${code}")
string(REPLACE ";" "" bytes "${bytes}")
string(REPLACE "0x" "" bytes "${bytes}")
foreach(word inner outer)
  string(HEX "int ${word}" hex)
  string(REGEX MATCHALL "${hex}" times "${bytes}")
  list(LENGTH times times)
  if(NOT times EQUAL 1)
    message(FATAL_ERROR "${word}.h is there ${times} times")
  endif()
endforeach()

embed("/* */\n#include \"absent.h\"\n" "absent.h is included, but is not there")
embed("/* */\n#include \"unlisted.h\"\n" "unlisted.h is included, but is not in the list")
foreach(line "#include <math.h>" "#include \"a/outer.h\"" "#include \"outer.h\" /* why */" "# include \"outer.h\""
             "  #include \"outer.h\"" "#include MACRO" "#include\"outer.h\"")
  embed("/* */\n${line}\nint k;\n" "not a line that can be expanded")
endforeach()
embed("#include \"outer.h\"\nint k;\n" "not a line that can be expanded")
embed("/* */\n#include \"outer.h\"" "not a line that can be expanded")
