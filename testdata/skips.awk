# Of a log of go test -v: each skipped test, a tab, and why it was: the last line of the test that names a place in a file, which may have more lines
# behind it, and is before its result, or behind it where the test's output was kept back.
function flush() { if (skipped != "") print skipped "\t" reason[skipped]; skipped = "" }
/^=== / { flush(); test = $3; next }
/^(ok|FAIL|\?)[ \t]/ { flush(); split("", reason); next }
/^ *--- SKIP: / { flush(); test = skipped = $3; if (test in reason) flush(); next }
/^ *--- / { flush(); next }
/^ +[A-Za-z0-9_]+\.go:[0-9]+: / { sub(/^ +/, ""); reason[test] = $0; if (test == skipped) flush() }
END { flush() }
