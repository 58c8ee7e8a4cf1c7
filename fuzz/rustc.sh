#!/bin/sh
# What cargo calls for the crates of this workspace, rustc being its first argument: it tells the fuzzer which code was
# reached, as cargo-fuzz would have it but for the address sanitizer. Nothing here is unsafe, and so no other toolchain
# is needed, and what others wrote stays as it was built for everything else.
case " $* " in
*" --crate-name build_script_build "*) ;;
*) set -- "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares ;;
esac
exec "$@"
