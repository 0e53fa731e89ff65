package seccomp

import "strings"

// Actions, Operators and Flags list the words that [Compile] knows.
func Actions() []string { return strings.Split(actionNames, ", ") }

// Operators lists the comparisons of arguments.
func Operators() []string { return strings.Split(operatorNames, ", ") }

// Flags lists those of a filter.
func Flags() []string { return strings.Split(flagNames, ", ") }
