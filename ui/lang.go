package ui

import (
	"fmt"
	"reflect"
	"strings"
)

// A Lang is a language that kakuri speaks.
type Lang uint8

// The languages. English is the one of the zero value.
const (
	EN Lang = iota
	JA
)

func (l Lang) String() string {
	if l == JA {
		return "ja"
	}
	return "en"
}

// LangOf chooses the language: the value of --lang ("en", "ja") when it is not empty, else
// the first of LC_ALL, LC_MESSAGES and LANG that is set, as setlocale(3) reads them.
// A locale of any other language gives English; any other value of --lang is an error.
func LangOf(flag string, getenv func(string) string) (Lang, error) {
	switch flag {
	case "":
		locale := firstSet(getenv, "LC_ALL", "LC_MESSAGES", "LANG")
		if name, _, _ := strings.Cut(locale, "."); name == "ja" || strings.HasPrefix(name, "ja_") {
			return JA, nil
		}
		return EN, nil
	case "en":
		return EN, nil
	case "ja":
		return JA, nil
	}
	return EN, fmt.Errorf("language %q: not one of en, ja", flag)
}

// A Text is one message in each language, a format of package fmt. A room declares its
// messages as fields of one struct variable: a name that the compiler checks, strings
// that cost nothing at start, and [Untranslated] to hold against it in a test.
//
//	var say = struct{ Started, Gone ui.Text }{
//		Started: ui.Text{EN: "%s is pid %d", JA: "%s のプロセスIDは %d です"},
//		…
//
// Where the word order differs, the Japanese side numbers its arguments: %[2]d.
type Text struct{ EN, JA string }

// A Count is a message about a number of things, which is its first argument.
type Count struct{ One, Many, JA string }

// Say returns t in the language l with args filled in.
func (l Lang) Say(t Text, args ...any) string {
	format := t.EN
	if l == JA {
		format = t.JA
	}
	if len(args) == 0 {
		return format
	}
	return fmt.Sprintf(format, args...)
}

// Count returns c in the language l for n things; args follow n in the format.
func (l Lang) Count(c Count, n int, args ...any) string {
	format := c.Many
	switch {
	case l == JA:
		format = c.JA
	case n == 1:
		format = c.One
	}
	return fmt.Sprintf(format, append([]any{n}, args...)...)
}

// Untranslated walks a struct of [Text] and [Count] fields, nested ones too, and returns
// one line for each message that a language lacks or whose languages take different
// arguments. It is for tests.
func Untranslated(table any) []string {
	return untranslated("", reflect.ValueOf(table))
}

func untranslated(path string, v reflect.Value) []string {
	var faults []string
	for i := range v.NumField() {
		name, f := strings.TrimPrefix(path+"."+v.Type().Field(i).Name, "."), v.Field(i)
		switch {
		case f.Kind() != reflect.Struct:
			faults = append(faults, name+": not a message")
		case f.Type() == reflect.TypeFor[Text](), f.Type() == reflect.TypeFor[Count]():
			faults = append(faults, uneven(name, f)...)
		default:
			faults = append(faults, untranslated(name, f)...)
		}
	}
	return faults
}

// uneven compares the languages of one message, whose fields are all strings.
func uneven(name string, message reflect.Value) []string {
	var faults []string
	want := arguments(message.Field(0).String())
	for i := range message.NumField() {
		field, format := message.Type().Field(i).Name, message.Field(i).String()
		if format == "" {
			faults = append(faults, name+": no "+field)
		} else if got := arguments(format); got != want {
			faults = append(faults, fmt.Sprintf("%s: %s takes %q, %s takes %q", name, message.Type().Field(0).Name, want, field, got))
		}
	}
	return faults
}

// arguments lists the verbs of a format in the order of their arguments: "s d" for
// "%[2]d of %[1]s".
func arguments(format string) string {
	var verbs []string
	next := 1
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			continue
		}
		for i++; i < len(format) && strings.IndexByte("+-# 0123456789.[]", format[i]) >= 0; i++ {
			if format[i] == '[' {
				fmt.Sscanf(format[i:], "[%d]", &next)
			}
		}
		if i < len(format) && format[i] != '%' {
			for len(verbs) < next {
				verbs = append(verbs, "-")
			}
			verbs[next-1] = format[i : i+1]
			next++
		}
	}
	return strings.Join(verbs, " ")
}
