// Package leanjson is encoding/json for a process that meets each type once: same bytes, same values, no tables.
//
// encoding/json learns a type before its first value of it: all fields of all types below, for both directions, those that are not
// in the value too. For a spec of runtime-spec that is 1.3 ms of a process that lives for ten. Here a value is walked as it is.
// What is rare (embedded pointers, interfaces, floats, keys that are no strings, types with methods of their own for JSON) is
// left to encoding/json, part by part, and so are the errors.
package leanjson
