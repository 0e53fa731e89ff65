// Command gen writes decode_gen.go of package specjson: for each struct type of
// runtime-spec a function that reads it from JSON. It looks at the types by
// reflection, so that specjson itself does not have to. Run it with go generate
// after a new version of runtime-spec; a test here fails until that is done.
package main
