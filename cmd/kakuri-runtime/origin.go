package main

import "strings"

// An origin is a flag that was given, and the value of a process or of linux.resources that it became.
type origin struct{ flag, path string }

// noting has the flags that a table names noted when they are given.
func noting(flags []flag, table []origin, given *[]origin) []flag {
	for i, f := range flags {
		name, _, _ := strings.Cut(f.names, " ")
		flags[i].value = func(s string) error {
			for _, o := range table {
				if o.flag == "--"+name {
					*given = append(*given, o)
				}
			}
			return f.value(s)
		}
	}
	return flags
}

// causes are the flags by the fields of config.json's process that they became.
func causes(given []origin) map[string]string {
	m := map[string]string{}
	for _, o := range given {
		m["process."+o.path] = o.flag
	}
	return m
}

// ofFlag has an error about a value name the flag that the value came from, where it would name a document that the caller has not written.
func ofFlag(err error, given []origin) error {
	if err == nil {
		return nil
	}
	for _, document := range []string{"process.json: ", "config.json: process.", "resources.json: ", "config.json linux.resources."} {
		text, ok := strings.CutPrefix(err.Error(), document)
		if !ok {
			continue
		}
		path, rest, _ := strings.Cut(text, ": ")
		path, _, _ = strings.Cut(path, "[") // one of several
		for _, o := range given {
			if o.path == path {
				return &flagError{o.flag + ": " + rest, err}
			}
		}
	}
	return err
}

// A flagError is an error with another text.
type flagError struct {
	text string
	err  error
}

func (e *flagError) Error() string { return e.text }
func (e *flagError) Unwrap() error { return e.err }
