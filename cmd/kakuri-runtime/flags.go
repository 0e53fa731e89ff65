package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A flag is one option of the command line: its names, and where its value goes.
type flag struct {
	names string // "bundle b"
	value func(string) error
	bool  bool // takes no value, but --name=false is understood
	help  string
	arg   string // what the help calls the value
}

func text(names string, to *string, arg, help string) flag {
	return flag{names: names, value: func(s string) error { *to = s; return nil }, arg: arg, help: help}
}

func yes(names string, to *bool, help string) flag {
	return flag{names: names, bool: true, help: help, value: func(s string) (err error) {
		if *to, err = strconv.ParseBool(s); err != nil {
			err = errors.New("it is true or false")
		}
		return err
	}}
}

func texts(names string, to *[]string, arg, help string) flag {
	return flag{names: names, value: func(s string) error { *to = append(*to, s); return nil }, arg: arg, help: help}
}

func gids(names string, to *[]uint32, arg, help string) flag {
	return flag{names: names, arg: arg, help: help, value: func(s string) error {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return errors.New("it is a GID, in digits")
		}
		*to = append(*to, uint32(n))
		return nil
	}}
}

func number(names string, to *uint, arg, help string) flag {
	return flag{names: names, arg: arg, help: help, value: func(s string) error {
		n, err := strconv.ParseUint(s, 10, 31)
		*to = uint(n)
		if err != nil {
			err = errors.New("it is a number, not negative")
		}
		return err
	}}
}

// parse takes flags from the front of args, up to the first argument that is none, or past "--".
func parse(args []string, flags []flag) (rest []string, err error) {
	for len(args) > 0 {
		a := args[0]
		if a == "--" {
			return args[1:], nil
		}
		if len(a) < 2 || a[0] != '-' {
			return args, nil
		}
		name, value, has := strings.Cut(strings.TrimPrefix(a[1:], "-"), "=")
		f := find(flags, name)
		if f == nil {
			return nil, fmt.Errorf("flag provided but not defined: -%s", name)
		}
		args = args[1:]
		switch {
		case f.bool && !has:
			value = "true"
		case !f.bool && !has:
			if len(args) == 0 {
				return nil, fmt.Errorf("flag needs an argument: -%s", name)
			}
			value, args = args[0], args[1:]
		}
		if err := f.value(value); err != nil {
			return nil, fmt.Errorf("invalid value %q for flag -%s: %w", value, name, err)
		}
	}
	return nil, nil
}

// parseAll takes flags from anywhere before "--": callers write them after the container's ID as well.
func parseAll(args []string, flags []flag) (rest []string, err error) {
	var after []string
	if i := slices.Index(args, "--"); i >= 0 {
		args, after = args[:i], args[i+1:]
	}
	for len(args) > 0 {
		if args, err = parse(args, flags); err != nil {
			return nil, err
		}
		if len(args) > 0 {
			rest, args = append(rest, args[0]), args[1:]
		}
	}
	return append(rest, after...), nil
}

func find(flags []flag, name string) *flag {
	for i, f := range flags {
		for n := range strings.FieldsSeq(f.names) {
			if n == name {
				return &flags[i]
			}
		}
	}
	return nil
}

// helpText lists flags, one a line.
func helpText(flags []flag) string {
	var s strings.Builder
	for _, f := range flags {
		var names []string
		for n := range strings.FieldsSeq(f.names) {
			if len(n) == 1 {
				names = append(names, "-"+n)
			} else {
				names = append(names, "--"+n)
			}
		}
		left := strings.Join(names, ", ")
		if f.arg != "" {
			left += " " + f.arg
		}
		const column = 26
		if len(left) >= column {
			fmt.Fprintf(&s, "  %s\n", left)
			left = ""
		}
		for _, line := range wrap(f.help, 80-column-2) {
			fmt.Fprintf(&s, "  %-*s%s\n", column, left, line)
			left = ""
		}
	}
	return s.String()
}

// wrap breaks a text into lines of at most width bytes, at blanks.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
