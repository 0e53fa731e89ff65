package namespace

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
)

// lines calls do for each line of data that is not empty, until it returns an error.
func lines(data []byte, do func(line []byte) error) error {
	for line := range bytes.Lines(data) {
		if line = bytes.TrimSuffix(line, []byte("\n")); len(line) > 0 {
			if err := do(line); err != nil {
				return err
			}
		}
	}
	return nil
}

// fields splits s at blanks without allocating for the usual number of them.
func fields(s []byte, into []string) []string {
	into = into[:0]
	for f := range bytes.FieldsSeq(s) {
		into = append(into, string(f))
	}
	return into
}

// number parses an unsigned decimal of at most bits bits.
func number(s string, bits int) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, bits)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number of %d bits", s, bits)
	}
	return n, nil
}

// integer parses an id of the kernel's that is an int there and never negative: a pid, a
// mount, a peer group.
func integer(s string) (int, error) {
	n, err := number(s, 31)
	return int(n), err
}

func sorted(list []int) []int {
	slices.Sort(list)
	return list
}
